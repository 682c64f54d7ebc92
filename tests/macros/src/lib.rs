//! One source for the tests of both adapters: scenarios are written in async form, and their sync
//! form is the same tokens without `async` and `.await`.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// A scenario for the sync adapter: a `#[test]` without `async` and `.await`.
#[proc_macro_attribute]
pub fn sync_scenario(_: TokenStream, item: TokenStream) -> TokenStream {
    [tokens("#[test]"), strip(item)].into_iter().collect()
}

/// A helper of sync scenarios: the function without `async` and `.await`.
#[proc_macro_attribute]
pub fn sync_helper(_: TokenStream, item: TokenStream) -> TokenStream {
    strip(item)
}

/// A scenario for the async adapter: a `#[test]` that spawns the body as a task, on a runtime of
/// several threads.
#[proc_macro_attribute]
pub fn async_scenario(_: TokenStream, item: TokenStream) -> TokenStream {
    let mut test: Vec<TokenTree> = tokens("#[test]").into_iter().collect();
    for token in item {
        match token {
            TokenTree::Ident(ident) if ident.to_string() == "async" => {}
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                test.push(spawned(body).into());
            }
            other => test.push(other),
        }
    }
    test.into_iter().collect()
}

/// A helper of async scenarios: the function as it is.
#[proc_macro_attribute]
pub fn async_helper(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

fn spawned(body: Group) -> Group {
    let mut task = tokens("async move");
    task.extend([TokenTree::Group(body)]);
    let mut call = tokens("::dbop_tests::asynchronous::on_many_threads");
    call.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, task))]);
    Group::new(Delimiter::Brace, call)
}

fn tokens(code: &str) -> TokenStream {
    code.parse().expect("it can be tokenized")
}

fn strip(tokens: TokenStream) -> TokenStream {
    let mut stripped: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident.to_string() == "async" => {}
            TokenTree::Ident(ident) if ident.to_string() == "await" => {
                // The dot in front of it.
                stripped.pop();
            }
            TokenTree::Group(group) => stripped.push(regroup(&group).into()),
            other => stripped.push(other),
        }
    }
    stripped.into_iter().collect()
}

fn regroup(group: &Group) -> Group {
    let delimiter: Delimiter = group.delimiter();
    let mut stripped = Group::new(delimiter, strip(group.stream()));
    stripped.set_span(group.span());
    stripped
}
