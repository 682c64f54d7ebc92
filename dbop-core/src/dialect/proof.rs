//! What a transaction carries so that its fate can be found out after its COMMIT was not answered.

use super::ledger::TokenSql;

/// Written by the batch that opens the transaction.
#[derive(Clone, Debug)]
pub(super) enum CommitProof {
    /// A row of the ledger, committed with the work.
    Token(TokenSql),
    /// PostgreSQL: a setting that ends with the transaction. It shows that the id read before the
    /// COMMIT belongs to the transaction that was opened.
    Mark,
}
