//! Checks of the project itself, which need no server.

mod compile_fail;
mod compose;
mod conversations;
mod docs;
mod error_codes;
mod proxy;
mod public_names;
mod public_types;
mod readme;
