//! What is known of the sessions of a runner: whether they are stricter than its defaults.
//!
//! A default never makes a session's stricter value looser, and to look at that value takes a query. The
//! sessions of a runner usually have the same values, by their role, database, URL or pool. So the opening
//! batch of the first operation asks, by a statement that fails exactly where the session is stricter, and
//! so does one in [`LOOK_AGAIN`] after it, or in [`LOOK_AGAIN_SOONER`] where it was stricter: a default that
//! is left out is no limit for a laxer session. In between a default is set, or left out, without looking.
//! Where sessions were found to differ, every operation looks. Until there is a first answer every
//! operation asks: a look sets the default for the session, which is not possible behind every pooler.
//!
//! Behind a pooler the next transaction can be in another session. There every operation asks, until the
//! runner has met a session that is stricter. From then on each looks, in its own transaction.
//!
//! PostgreSQL only.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::settings::{Defaults, Settings};

/// One operation in so many asks again. A prime, so that of operations that take turns each kind asks.
const LOOK_AGAIN: u32 = 997;

/// The same where all sessions so far were stricter.
const LOOK_AGAIN_SOONER: u32 = 17;

/// A setting of the session on which it depends what a default does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionSetting {
    LockTimeout,
    StatementTimeout,
    Isolation,
    /// No default: the session's value, which the word that guards a BEGIN must not change.
    Deferrable,
}

impl SessionSetting {
    const COUNT: usize = 4;
    const ALL: [Self; Self::COUNT] = [
        Self::LockTimeout,
        Self::StatementTimeout,
        Self::Isolation,
        Self::Deferrable,
    ];

    /// What PostgreSQL calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LockTimeout => "lock_timeout",
            Self::StatementTimeout => "statement_timeout",
            Self::Isolation => "default_transaction_isolation",
            Self::Deferrable => "default_transaction_deferrable",
        }
    }

    /// What an error says where the session is stricter, in every language: the name of a setting that
    /// there is not.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::LockTimeout => "dbop.lock_timeout_is_stricter",
            Self::StatementTimeout => "dbop.statement_timeout_is_stricter",
            Self::Isolation => "dbop.default_transaction_isolation_is_stricter",
            Self::Deferrable => "dbop.default_transaction_deferrable_is_stricter",
        }
    }
}

/// What is known of a session about one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// Nothing that could be relied on: the session has to be looked at.
    #[default]
    Nothing,
    /// It is not stricter, or else the batch fails that says so.
    Asked,
    /// It is not stricter.
    Laxer,
    Stricter,
}

impl Knowledge {
    /// What is known of a session that others use, too, after a runner has met these kinds.
    const fn of_shared_session(setting: SessionSetting, met: u32) -> Self {
        match (met & STRICTER, setting) {
            (0, _) => Self::Asked,
            (_, SessionSetting::Isolation) => Self::Stricter,
            _ => Self::Nothing,
        }
    }
}

/// What is known of the session that an operation runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    by_setting: [Knowledge; SessionSetting::COUNT],
    /// A session is stricter if its timeout is shorter, or just as long.
    lock_timeout: Option<Duration>,
    /// The same. `None`: if it has one at all.
    statement_timeout: Option<Duration>,
}

impl Known {
    /// Nothing: every setting has to be looked at.
    pub(crate) const NOTHING: Self = Self {
        by_setting: [Knowledge::Nothing; SessionSetting::COUNT],
        lock_timeout: None,
        statement_timeout: None,
    };

    pub(super) const fn of(&self, setting: SessionSetting) -> Knowledge {
        self.by_setting[setting as usize]
    }

    /// The timeout of a session that is no stricter than the runner is longer than this.
    pub(super) const fn bound(&self, setting: SessionSetting) -> Option<Duration> {
        match setting {
            SessionSetting::LockTimeout => self.lock_timeout,
            SessionSetting::StatementTimeout => self.statement_timeout,
            SessionSetting::Isolation | SessionSetting::Deferrable => None,
        }
    }

    /// What the session is asked about.
    pub(super) fn asked(&self) -> impl Iterator<Item = SessionSetting> {
        let of = self.by_setting;
        SessionSetting::ALL
            .into_iter()
            .filter(move |setting| of[*setting as usize] == Knowledge::Asked)
    }

    /// Whether the session is asked about anything.
    pub(crate) fn asks(&self) -> bool {
        self.asked().next().is_some()
    }

    /// The same after the session has said that it is stricter here.
    pub(super) const fn with_stricter(mut self, setting: SessionSetting) -> Self {
        self.by_setting[setting as usize] = Knowledge::Stricter;
        self
    }

    /// The same where others may use the session, after it has said that it is stricter here: each attempt
    /// looks. A level that is left out does no harm: there is none weaker, or else the strictest is named.
    pub(super) fn with_look(mut self, setting: SessionSetting) -> Self {
        self.by_setting[setting as usize] = Knowledge::of_shared_session(setting, STRICTER);
        self
    }

    /// The same after the session has had nothing to say.
    pub(super) fn with_answer(self) -> Self {
        self.where_asked(Knowledge::Laxer)
    }

    /// The same where it is looked at rather than left alone, because others may not be stricter here.
    pub(super) const fn without_stricter(mut self, setting: SessionSetting) -> Self {
        if matches!(self.of(setting), Knowledge::Stricter) {
            self.by_setting[setting as usize] = Knowledge::Nothing;
        }
        self
    }

    /// The same where a session that answers would be in the way: it is looked at.
    pub(super) fn without_asking(self) -> Self {
        self.where_asked(Knowledge::Nothing)
    }

    fn where_asked(self, instead: Knowledge) -> Self {
        let answered = |knowledge| match knowledge {
            Knowledge::Asked => instead,
            other => other,
        };
        Self {
            by_setting: self.by_setting.map(answered),
            ..self
        }
    }
}

/// Which settings of the session an operation depends on, by [`SessionSetting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed([bool; SessionSetting::COUNT]);

impl Needed {
    /// Those of an operation with a transaction of its own. `has_ladder`: its attempts have lock timeouts
    /// of their own. `is_timed`: it has a deadline.
    pub(crate) const fn by(
        settings: &Settings,
        defaults: &Defaults,
        has_ladder: bool,
        is_timed: bool,
    ) -> Self {
        let profile = defaults.profile();
        let lock_timeout = defaults.lock_timeout.is_some()
            && settings.lock_timeout.is_none()
            && !has_ladder
            && profile.has_locks();
        let statement_timeout = settings.statement_timeout.is_none()
            && (defaults.statement_timeout.is_some() || is_timed);
        let isolation =
            defaults.isolation.is_some() && settings.isolation.is_none() && profile.has_levels();
        let any = lock_timeout || statement_timeout || isolation;
        let deferrable = any && !settings.deferrable && profile.has_default_deferrable();
        Self([lock_timeout, statement_timeout, isolation, deferrable])
    }

    fn is_empty(self) -> bool {
        !self.0.contains(&true)
    }
}

/// What a runner and its clones have learned of their sessions. Its upper bits count the operations.
#[derive(Debug, Default)]
pub(crate) struct Sessions(AtomicU32);

/// Of one setting: there was a session that is not stricter,
const LAXER: u32 = 1;
/// and one that is.
const STRICTER: u32 = 2;
const DIFFERENT: u32 = LAXER | STRICTER;
/// How many bits that takes.
const WIDTH: u32 = 2;

impl Sessions {
    /// One operation.
    const ONE: u32 = 1 << (WIDTH * SessionSetting::COUNT as u32);

    /// What the next operation knows of its session.
    pub(crate) fn known(&self, defaults: &Defaults, needed: Needed) -> Known {
        let Defaults {
            lock_timeout,
            statement_timeout,
            sessions_differ,
            pooler_safe,
            ..
        } = *defaults;
        if sessions_differ && !pooler_safe || needed.is_empty() {
            return Known::NOTHING;
        }
        let so_far = self.0.fetch_add(Self::ONE, Relaxed);
        let operations = so_far / Self::ONE;
        let mut by_setting = [Knowledge::Nothing; SessionSetting::COUNT];
        for setting in SessionSetting::ALL {
            if needed.0[setting as usize] {
                let met = so_far >> shift(setting) & DIFFERENT;
                by_setting[setting as usize] = match met {
                    _ if pooler_safe => Knowledge::of_shared_session(setting, met),
                    DIFFERENT => Knowledge::Nothing,
                    LAXER if operations % LOOK_AGAIN != 0 => Knowledge::Laxer,
                    STRICTER if operations % LOOK_AGAIN_SOONER != 0 => Knowledge::Stricter,
                    _ => Knowledge::Asked,
                };
            }
        }
        Known {
            by_setting,
            lock_timeout,
            statement_timeout,
        }
    }

    /// A session is not stricter in what it was asked about.
    pub(crate) fn found_laxer(&self, settings: impl Iterator<Item = SessionSetting>) {
        for setting in settings {
            self.add(setting, LAXER);
        }
    }

    /// A session is stricter.
    pub(crate) fn found_stricter(&self, setting: SessionSetting) {
        self.add(setting, STRICTER);
    }

    fn add(&self, setting: SessionSetting, bits: u32) {
        self.0.fetch_or(bits << shift(setting), Relaxed);
    }
}

const fn shift(setting: SessionSetting) -> u32 {
    WIDTH * setting as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: SessionSetting = SessionSetting::LockTimeout;
    const STATEMENT: SessionSetting = SessionSetting::StatementTimeout;
    const DEFERRABLE: SessionSetting = SessionSetting::Deferrable;

    /// What an operation that asks for nothing needs of a runner that has its defaults.
    fn default_operation() -> Needed {
        Needed::by(&Settings::NONE, &Defaults::default(), false, false)
    }

    fn next(sessions: &Sessions) -> Known {
        sessions.known(&Defaults::default(), default_operation())
    }

    #[test]
    fn all_ask_until_there_is_an_answer() {
        let sessions = Sessions::default();
        let first = next(&sessions);
        assert_eq!(first.of(LOCK), Knowledge::Asked);
        assert_eq!(first.of(DEFERRABLE), Knowledge::Asked);
        assert_eq!(first.of(STATEMENT), Knowledge::Nothing, "not needed");
        assert_eq!(first.bound(LOCK), Some(Duration::from_secs(10)));
        assert!(first.asks());
        assert_eq!(next(&sessions), first);
        sessions.found_laxer(first.asked());
        assert_eq!(next(&sessions), first.with_answer());
        assert_eq!(first.with_answer().of(LOCK), Knowledge::Laxer);
    }

    #[test]
    fn about_one_in_a_thousand_asks_again_and_more_where_the_session_is_stricter() {
        for (is_stricter, every) in [(false, 997), (true, 17)] {
            let sessions = Sessions::default();
            let mut looks = Vec::new();
            for number in 0..=3 * every {
                let known = next(&sessions);
                if !known.asks() {
                    continue;
                }
                looks.push(number);
                match is_stricter {
                    true => known.asked().for_each(|it| sessions.found_stricter(it)),
                    false => sessions.found_laxer(known.asked()),
                }
            }
            assert_eq!(looks, [0, every, 2 * every, 3 * every]);
        }
    }

    /// Every other operation has a deadline.
    #[test]
    fn of_two_kinds_of_operations_that_take_turns_both_ask_again() {
        for (is_stricter, every) in [(false, LOOK_AGAIN), (true, LOOK_AGAIN_SOONER)] {
            let sessions = Sessions::default();
            for setting in SessionSetting::ALL {
                match is_stricter {
                    true => sessions.found_stricter(setting),
                    false => sessions.found_laxer([setting].into_iter()),
                }
            }
            let mut asked = Vec::new();
            for number in 0..=2 * every {
                let is_timed = number % 2 == 1;
                let needed = Needed::by(&Settings::NONE, &Defaults::default(), false, is_timed);
                if sessions.known(&Defaults::default(), needed).asks() {
                    asked.push(is_timed);
                }
            }
            assert_eq!(asked, [false, true, false]);
        }
    }

    #[test]
    fn where_sessions_differ_all_look_from_then_on_and_none_asks() {
        let sessions = Sessions::default();
        _ = next(&sessions);
        sessions.found_laxer([LOCK].into_iter());
        sessions.found_stricter(LOCK);
        for _ in 0..2 * LOOK_AGAIN {
            assert_eq!(next(&sessions).of(LOCK), Knowledge::Nothing);
        }
    }

    #[test]
    fn one_setting_says_nothing_of_another() {
        let sessions = Sessions::default();
        _ = next(&sessions);
        sessions.found_stricter(LOCK);
        sessions.found_laxer([DEFERRABLE].into_iter());
        let timed = Needed::by(&Settings::NONE, &Defaults::default(), false, true);
        let known = sessions.known(&Defaults::default(), timed);
        let of = [LOCK, STATEMENT, DEFERRABLE].map(|setting| known.of(setting));
        let expected = [Knowledge::Stricter, Knowledge::Asked, Knowledge::Laxer];
        assert_eq!(of, expected);
        assert_eq!(known.bound(STATEMENT), None, "any is stricter");
    }

    #[test]
    fn the_count_of_operations_never_reaches_what_was_learned() {
        let sessions = Sessions(AtomicU32::new(u32::MAX - Sessions::ONE + 1));
        sessions.found_stricter(LOCK);
        _ = next(&sessions);
        let learned = sessions.0.into_inner();
        assert_eq!(learned, STRICTER << shift(LOCK));
    }

    #[test]
    fn who_says_that_they_differ_never_asks_and_who_needs_nothing_is_not_counted() {
        let differ = Defaults {
            sessions_differ: true,
            ..Defaults::default()
        };
        let sessions = Sessions::default();
        let nothing = Needed::by(&Settings::NONE, &Defaults::NONE, false, false);
        for _ in 0..3 {
            let known = sessions.known(&differ, default_operation());
            assert_eq!(known, Known::NOTHING);
            assert_eq!(sessions.known(&Defaults::NONE, nothing), Known::NOTHING);
        }
        assert_eq!(sessions.0.into_inner(), 0);
    }

    #[test]
    fn only_the_isolation_level_is_known_of_a_session_that_others_use_too() {
        use SessionSetting::{Deferrable, Isolation, LockTimeout, StatementTimeout};

        for setting in [LockTimeout, StatementTimeout, Isolation, Deferrable] {
            let of = |met| Knowledge::of_shared_session(setting, met);
            assert_eq!(of(0), Knowledge::Asked);
            let expected = match setting {
                Isolation => Knowledge::Stricter,
                _ => Knowledge::Nothing,
            };
            assert_eq!(of(STRICTER), expected, "{setting:?}");
        }
    }

    #[test]
    fn what_an_operation_asks_for_itself_does_not_depend_on_the_session() {
        let defaults = Defaults {
            statement_timeout: Some(Duration::from_secs(1)),
            isolation: Some(crate::IsolationLevel::Serializable),
            ..Defaults::default()
        };
        let second = Some(Duration::from_secs(1));
        let own = Settings {
            lock_timeout: second,
            statement_timeout: second,
            isolation: Some(crate::IsolationLevel::ReadCommitted),
            ..Settings::NONE
        };
        let needs = |settings, ladder| Needed::by(settings, &defaults, ladder, true).0;
        assert_eq!(needs(&Settings::NONE, false), [true; 4]);
        assert_eq!(needs(&Settings::NONE, true), [false, true, true, true]);
        assert_eq!(needs(&own, false), [false; 4]);
        let deferrable = Settings {
            deferrable: true,
            lock_timeout: None,
            ..own
        };
        assert_eq!(needs(&deferrable, false), [true, false, false, false]);
        let one = |lock_timeout, statement_timeout, isolation| {
            let defaults = Defaults {
                lock_timeout,
                statement_timeout,
                isolation,
                ..Defaults::default()
            };
            Needed::by(&Settings::NONE, &defaults, false, false).0
        };
        let serializable = Some(crate::IsolationLevel::Serializable);
        assert_eq!(one(second, None, None), [true, false, false, true]);
        assert_eq!(one(None, second, None), [false, true, false, true]);
        assert_eq!(one(None, None, serializable), [false, false, true, true]);
        assert_eq!(one(None, None, None), [false; 4]);
    }
}
