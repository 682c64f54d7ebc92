//! Asking PostgreSQL what became of a transaction (`pg_xact_status`).

/// [`TransactionId::statistics_since`] as SQL.
macro_rules! statistics_since {
    () => {
        "coalesce((extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::bigint, 0)"
    };
}

/// What PostgreSQL calls a transaction.
///
/// In a crash the server can forget an id that it gave to an uncommitted transaction, and later give
/// that id to another one. A crash also resets its statistics, and the server reports when they were
/// reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransactionId {
    /// The id: `pg_current_xact_id_if_assigned()`.
    pub(crate) id: u64,
    /// When the server's statistics were reset: `pg_stat_get_bgwriter_stat_reset_time()`, in
    /// microseconds since 1970-01-01 00:00 UTC; 0 if it is NULL.
    pub(crate) statistics_since: i64,
}

impl TransactionId {
    /// The query for its status: one row with one text column `s`, to be read as a
    /// [`TransactionStatus`].
    pub(crate) fn status_query(self) -> String {
        let Self {
            id,
            statistics_since,
        } = self;
        // After a crash the id can be that of another transaction, whose commit says nothing about
        // this one.
        format!(
            concat!(
                "SELECT CASE WHEN status <> 'committed' OR ",
                statistics_since!(),
                " = {statistics_since} THEN status END AS s \
                 FROM pg_xact_status('{id}'::xid8) AS status"
            ),
            statistics_since = statistics_since,
            id = id
        )
    }
}

/// The answer to a [`status_query`](TransactionId::status_query).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionStatus {
    /// The COMMIT was carried out.
    Committed,
    /// The transaction was rolled back.
    Aborted,
    /// It can still end either way.
    InProgress,
    /// The server does not remember the transaction, or has crashed since.
    Unknown,
}

impl TransactionStatus {
    /// Reads the column of the answer.
    pub(crate) fn from_answer(answer: Option<&str>) -> Self {
        match answer {
            Some("committed") => Self::Committed,
            Some("aborted") => Self::Aborted,
            Some("in progress") => Self::InProgress,
            _ => Self::Unknown,
        }
    }
}

/// What PostgreSQL says about the transaction that is about to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CurrentTransaction {
    /// It has the mark of the opening batch: it is the transaction
    /// that was opened. Otherwise the operation may have ended that one, and the id is of no use.
    pub(crate) is_ours: bool,
    /// Its id. It has none until it has written something.
    pub(crate) id: Option<TransactionId>,
}

impl CurrentTransaction {
    /// The query for it: one row with one text column. Outside of the transaction that was opened, the mark is
    /// empty, or unknown to the session.
    pub(crate) const QUERY: &str = concat!(
        "SELECT concat(current_setting('dbop.transaction', true) <> '', ' ', \
         pg_current_xact_id_if_assigned(), ' ', ",
        statistics_since!(),
        ")"
    );

    /// Reads the column of the answer, such as `t 731 1764590000123456`.
    pub(crate) fn from_answer(answer: Option<&str>) -> Self {
        // An answer that is not understood must not look like a transaction that has written nothing.
        Self::parse(answer.unwrap_or_default()).unwrap_or_default()
    }

    fn parse(answer: &str) -> Option<Self> {
        let (mark, rest) = answer.split_once(' ')?;
        let (id, since) = rest.split_once(' ')?;
        let statistics_since = since.parse().ok()?;
        let id = match id {
            "" => None,
            id => Some(TransactionId {
                id: id.parse().ok()?,
                statistics_since,
            }),
        };
        Some(Self {
            is_ours: mark == "t",
            id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_counts_only_if_the_server_has_not_crashed_since() {
        let id = TransactionId {
            id: 7,
            statistics_since: 12,
        };
        assert_eq!(
            id.status_query(),
            "SELECT CASE WHEN status <> 'committed' OR coalesce((extract(epoch FROM \
             pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::bigint, 0) = 12 \
             THEN status END AS s FROM pg_xact_status('7'::xid8) AS status"
        );
    }

    #[test]
    fn a_transaction_has_an_id_once_it_has_written_something() {
        let id = TransactionId {
            id: u64::MAX,
            statistics_since: 5,
        };
        for (answer, is_ours, expected) in [
            (Some("t 18446744073709551615 5"), true, Some(id)),
            (Some("t  5"), true, None),
            (Some("f 18446744073709551615 5"), false, Some(id)),
            // The session does not know the mark.
            (Some(" 18446744073709551615 5"), false, Some(id)),
            (Some("t 7"), false, None),
            (Some("t x 5"), false, None),
            (Some("t 7 x"), false, None),
            (Some("t"), false, None),
            (Some(""), false, None),
            (None, false, None),
        ] {
            let expected = CurrentTransaction {
                is_ours,
                id: expected,
            };
            assert_eq!(CurrentTransaction::from_answer(answer), expected);
        }
    }

    #[test]
    fn only_the_three_answers_that_postgresql_documents_are_understood() {
        for (answer, expected) in [
            (Some("committed"), TransactionStatus::Committed),
            (Some("aborted"), TransactionStatus::Aborted),
            (Some("in progress"), TransactionStatus::InProgress),
            (Some("Committed"), TransactionStatus::Unknown),
            (Some(""), TransactionStatus::Unknown),
            (None, TransactionStatus::Unknown),
        ] {
            assert_eq!(TransactionStatus::from_answer(answer), expected);
        }
    }
}
