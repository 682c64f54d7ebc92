//! What the sync and the async adapter share. For dbop-diesel-async, not for applications: it can
//! change in every release.

#[cfg(feature = "testing")]
pub use injection::Handle;
#[cfg(not(feature = "testing"))]
pub use no_injection::Handle;
pub use results::{Results, UserResults, verify_done};
pub use run::{Ended, Host, Run};
pub use trace::{Entered, Trace};

mod errors;
mod hooks;
#[cfg(feature = "testing")]
mod injection;
pub mod keyed;
pub mod mapped;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(not(feature = "testing"))]
mod no_injection;
pub mod nodes;
#[cfg(feature = "postgres")]
pub mod postgres;
mod results;
mod run;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod statements;
pub mod status;
mod trace;
