//! One source for the tests of both adapters: scenarios are written in async form, and their sync
//! form is the same tokens without `async` and `.await`.

use proc_macro::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// A scenario for the sync adapter: a `#[test]` without `async` and `.await`.
#[proc_macro_attribute]
pub fn sync_scenario(_: TokenStream, item: TokenStream) -> TokenStream {
    let test: TokenStream = [
        TokenTree::Punct(Punct::new('#', Spacing::Alone)),
        TokenTree::Group(Group::new(
            Delimiter::Bracket,
            TokenTree::Ident(Ident::new("test", Span::call_site())).into(),
        )),
    ]
    .into_iter()
    .collect();
    [test, strip(item)].into_iter().collect()
}

/// A helper of sync scenarios: the function without `async` and `.await`.
#[proc_macro_attribute]
pub fn sync_helper(_: TokenStream, item: TokenStream) -> TokenStream {
    strip(item)
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
