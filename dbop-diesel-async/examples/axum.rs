//! A web service.
fn main() {}
