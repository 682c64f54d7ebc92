//! The builder methods that the runners and operations of all adapters share.
//!
//! They are macros because inherent methods of types in other crates cannot be shared otherwise: an
//! extension trait would have to be imported by every user, and its methods could not be `const`.
//! Each macro takes the name of the adapter, for the examples. The examples build and do not run,
//! which is the same in all adapters.

mod hooks;
mod keys;
mod resolution;
mod runner;
mod settings;
