//! The batches of an operation with a key.

use super::Batches;
use crate::dialect::ledger::key::KeySql;
use crate::dialect::plan::Plan;
use crate::dialect::proof::CommitProof;

impl Batches {
    /// With the row of the operation's key, taken first and completed last in the transaction or savepoint.
    pub(crate) fn with_key(&self, key: KeySql) -> Self {
        self.with_proof(CommitProof::Key(Box::new(key)))
    }

    /// The same, completed with this answer.
    pub(crate) fn with_answer(&self, answer: Option<&[u8]>) -> Option<Self> {
        let mut key = self.plan.key()?.clone();
        key.set_answer(answer);
        Some(self.with_key(key))
    }

    /// The query for the row of the operation's key, as another transaction has committed it.
    pub(crate) fn key_query(&self) -> Option<String> {
        self.plan.key().map(KeySql::query)
    }

    /// Begins, with the row of the key there beforehand, as one that is vacant.
    pub(crate) fn begin_with_vacant_key(&self) -> Option<String> {
        let vacate = self.plan.key()?.vacate();
        let mut first = Self::of(Plan {
            proof: None,
            opening: Some(vacate.into()),
            known: self.plan.known.without_asking(),
            ..self.plan.clone()
        });
        first.plan.applied.ask(first.plan.dialect);
        let (begin, commit) = (first.begin(), first.commit());
        Some(format!("{begin}; {commit}; {}", self.begin()))
    }

    /// Undoes the body alone, and commits the key.
    pub(crate) fn commit_refusal(&self) -> String {
        let behind = self.plan.savepoint_behind_key();
        format!("ROLLBACK TO SAVEPOINT {behind}; {}", self.commit())
    }
}
