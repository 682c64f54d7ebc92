//! What a transaction carries so that its fate can be found out after its COMMIT was not answered.

use super::Level;
use super::ledger::TokenSql;
use super::ledger::key::KeySql;

/// Written by the batch that opens the transaction.
#[derive(Clone, Debug)]
pub(super) enum CommitProof {
    /// A row of the ledger, committed with the work.
    Token(TokenSql),
    /// The row of the operation's key, which has a token as well.
    Key(Box<KeySql>),
    /// PostgreSQL: a setting that ends with the transaction. It shows that the id read before the
    /// COMMIT belongs to the transaction that was opened.
    Mark,
}

impl CommitProof {
    /// What comes before the transaction, in one of its own that ends with these words. Can be empty.
    pub(super) fn cleanup(&self, words: &str) -> String {
        match self {
            Self::Token(token) => token.cleanup(words),
            Self::Key(_) | Self::Mark => String::new(),
        }
    }

    /// Writes the row. `None` for a mark.
    pub(super) fn opening(&self, level: Level) -> Option<String> {
        match self {
            Self::Token(token) => Some(token.opening()),
            Self::Key(key) => Some(key.opening(level)),
            Self::Mark => None,
        }
    }

    /// Completes the row. `None` for a mark.
    pub(super) fn closing(&self, level: Level) -> Option<String> {
        match self {
            Self::Token(token) => Some(token.closing()),
            Self::Key(key) => Some(key.closing(level)),
            Self::Mark => None,
        }
    }

    /// The question about the row, and the query for its state. `None` for a mark.
    pub(super) fn question(&self) -> Option<(String, String)> {
        match self {
            Self::Token(token) => Some((token.ask(), token.state_query())),
            Self::Key(key) => Some((key.ask(), key.state_query())),
            Self::Mark => None,
        }
    }
}
