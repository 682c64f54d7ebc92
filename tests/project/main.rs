//! Checks of the project itself, which need no server.
