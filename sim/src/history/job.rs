//! One job as a sequential thing: what each answer about it says, one after another.
//!
//! Workers end its tasks meanwhile, and time may close it: such steps are in no history. They only ever go one way,
//! so the model keeps what was seen of them as a lower bound.

use rebound_core::state::jobs::Phase;
use rebound_core::types::Index;

use super::Sequential;

/// What is asked about one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Opens it, with all its photos or none.
    Open { photos: u64, whole: bool },
    /// Adds photos.
    Append { offset: u64, count: u64 },
    /// No more.
    Close { total: u64 },
    /// Ends it.
    Cancel,
    /// Looks at it.
    Get,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is open, with so many photos.
    Opened { repeated: bool, next: u64, phase: Phase },
    /// Photos up to here are in.
    Appended { next: u64 },
    /// Closed or cancelled, now or before.
    Done,
    /// It takes no more.
    NotOpen { phase: Phase },
    /// It has another number of photos.
    WrongTotal { have: u64 },
    /// As it is.
    View {
        tasks: u64,
        ended: u64,
        phase: Phase,
        changed: Index,
    },
    /// Nobody knows it.
    NotFound,
}

/// How far it is, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Unknown,
    Open,
    Closed,
    /// A cancel came while it may have been closed: it is done or cancelled.
    Over,
    Done,
    Cancelled,
    /// Its time was over.
    Gone,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    stage: Stage,
    tasks: u64,
    /// At least so many have ended.
    ended: u64,
    /// It last changed at this entry or later.
    changed: Index,
}

/// The model. `closes_itself`: an open job may close at any time. `forgets`: one that has ended may be deleted.
pub struct Job {
    pub closes_itself: bool,
    pub forgets: bool,
}

impl Sequential for Job {
    type State = State;
    type Ask = Ask;
    type Answer = Answer;

    fn begin(&self) -> State {
        State {
            stage: Stage::Unknown,
            tasks: 0,
            ended: 0,
            changed: 0,
        }
    }

    fn step(&self, state: &State, ask: &Ask, answer: Option<&Answer>) -> Option<State> {
        let mut now = *state;
        match (ask, answer.copied()) {
            (Ask::Open { photos, whole }, answer) => {
                if now.stage == Stage::Gone {
                    return answer.is_none().then_some(now);
                }
                let fresh = now.stage == Stage::Unknown;
                if fresh {
                    now.stage = if *whole { Stage::Closed } else { Stage::Open };
                    now.tasks = if *whole { *photos } else { 0 };
                }
                match answer {
                    None => Some(now),
                    Some(Answer::Opened {
                        repeated,
                        next,
                        phase,
                    }) => (repeated != fresh && next == now.tasks).then(|| self.see(now, phase))?,
                    Some(_) => None,
                }
            }
            (_, Some(Answer::NotFound)) => self.not_found(now),
            _ if matches!(now.stage, Stage::Unknown | Stage::Gone) => answer.is_none().then_some(now),
            (Ask::Append { offset, count }, answer) => self.append(now, *offset, *count, answer),
            (Ask::Close { total }, answer) => self.close(now, *total, answer),
            (Ask::Cancel, None | Some(Answer::Done)) => {
                now.stage = match now.stage {
                    Stage::Open if !self.closes_itself => Stage::Cancelled,
                    Stage::Open | Stage::Closed => Stage::Over,
                    ended => ended,
                };
                Some(now)
            }
            (
                Ask::Get,
                Some(Answer::View {
                    tasks,
                    ended,
                    phase,
                    changed,
                }),
            ) => {
                let fits = tasks == now.tasks
                    && (now.ended..=tasks).contains(&ended)
                    && changed >= now.changed
                    && (phase != Phase::Done || ended == tasks);
                (now.ended, now.changed) = (ended, changed);
                fits.then(|| self.see(now, phase))?
            }
            (Ask::Get, None) => Some(now),
            _ => None,
        }
    }
}

impl Job {
    fn not_found(&self, mut now: State) -> Option<State> {
        let ended = match now.stage {
            Stage::Unknown => return Some(now),
            Stage::Gone => true,
            Stage::Open => self.forgets && self.closes_itself,
            _ => self.forgets,
        };
        now.stage = Stage::Gone;
        ended.then_some(now)
    }

    fn append(&self, mut now: State, offset: u64, count: u64, answer: Option<Answer>) -> Option<State> {
        let repeated = offset < now.tasks;
        let adds = offset == now.tasks && now.stage == Stage::Open;
        match answer {
            Some(Answer::Appended { next }) => {
                if adds {
                    now.tasks += count;
                }
                ((adds || repeated) && next == offset + count).then_some(now)
            }
            Some(Answer::NotOpen { phase }) => {
                (!repeated && phase != Phase::Open).then(|| self.see(now, phase))?
            }
            None => {
                if adds {
                    now.tasks += count;
                }
                Some(now)
            }
            Some(_) => None,
        }
    }

    fn close(&self, mut now: State, total: u64, answer: Option<Answer>) -> Option<State> {
        let right = now.tasks == total;
        let closed = match now.stage {
            Stage::Open => Some(Stage::Closed),
            Stage::Over => Some(Stage::Done),
            Stage::Cancelled => None,
            as_it_is => Some(as_it_is),
        };
        match answer {
            Some(Answer::Done) => {
                now.stage = closed.filter(|_| right)?;
                Some(now)
            }
            Some(Answer::NotOpen { phase }) => right.then(|| self.see(now, phase))?,
            Some(Answer::WrongTotal { have }) => (!right && have == now.tasks).then_some(now),
            None => {
                // A close does nothing to a job that is over.
                if now.stage == Stage::Open && right {
                    now.stage = Stage::Closed;
                }
                Some(now)
            }
            Some(_) => None,
        }
    }

    /// Somebody saw it in this phase.
    fn see(&self, mut now: State, phase: Phase) -> Option<State> {
        use Stage::*;
        let may = match phase {
            Phase::Open => now.stage == Open,
            Phase::Closed => now.stage == Closed || now.stage == Open && self.closes_itself,
            Phase::Done => {
                matches!(now.stage, Closed | Over | Done) || now.stage == Open && self.closes_itself
            }
            Phase::Cancelled => matches!(now.stage, Over | Cancelled),
        };
        now.stage = match phase {
            Phase::Open => Open,
            Phase::Closed => Closed,
            Phase::Done => Done,
            Phase::Cancelled => Cancelled,
        };
        may.then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Call, Verdict, check};
    use super::*;

    const OPEN: Ask = Ask::Open {
        photos: 2,
        whole: false,
    };

    fn opened() -> Answer {
        Answer::Opened {
            repeated: false,
            next: 0,
            phase: Phase::Open,
        }
    }

    fn view(tasks: u64, ended: u64, phase: Phase, changed: Index) -> Answer {
        Answer::View {
            tasks,
            ended,
            phase,
            changed,
        }
    }

    /// Calls one after another.
    fn one_by_one(calls: &[(Ask, Answer)]) -> bool {
        let call = |(at, (ask, answer)): (usize, &(Ask, Answer))| Call {
            from: 2 * at as u64,
            end: Some((2 * at as u64 + 1, *answer)),
            ask: *ask,
        };
        let calls: Vec<_> = calls.iter().enumerate().map(call).collect();
        check(
            &Job {
                closes_itself: false,
                forgets: false,
            },
            &calls,
        ) == Verdict::Linearizable
    }

    fn append(offset: u64, count: u64) -> (Ask, Answer) {
        (
            Ask::Append { offset, count },
            Answer::Appended { next: offset + count },
        )
    }

    #[test]
    fn a_life() {
        assert!(one_by_one(&[
            (OPEN, opened()),
            append(0, 2),
            append(0, 2),
            (Ask::Get, view(2, 1, Phase::Open, 9)),
            (Ask::Close { total: 2 }, Answer::Done),
            (Ask::Get, view(2, 2, Phase::Done, 12)),
            (Ask::Cancel, Answer::Done),
            (Ask::Get, view(2, 2, Phase::Done, 12)),
        ]));
    }

    #[test]
    fn bad_lives() {
        let lost = [(OPEN, opened()), (Ask::Get, Answer::NotFound)];
        let twice = [(OPEN, opened()), (OPEN, opened())];
        let stale = [
            (OPEN, opened()),
            append(0, 2),
            (Ask::Get, view(0, 0, Phase::Open, 9)),
        ];
        let back = [
            (OPEN, opened()),
            append(0, 2),
            (Ask::Get, view(2, 2, Phase::Open, 9)),
            (Ask::Get, view(2, 1, Phase::Open, 9)),
        ];
        let older = [
            (OPEN, opened()),
            (Ask::Get, view(0, 0, Phase::Open, 9)),
            (Ask::Get, view(0, 0, Phase::Open, 8)),
        ];
        let reopened = [
            (OPEN, opened()),
            (Ask::Close { total: 0 }, Answer::Done),
            (Ask::Get, view(0, 0, Phase::Open, 9)),
        ];
        let alive = [(OPEN, opened()), (Ask::Cancel, Answer::Done), append(0, 2)];
        let by_nobody = [(OPEN, opened()), (Ask::Get, view(0, 0, Phase::Cancelled, 9))];
        let unended = [
            (OPEN, opened()),
            append(0, 2),
            (Ask::Close { total: 2 }, Answer::Done),
            (Ask::Get, view(2, 1, Phase::Done, 9)),
        ];
        for bad in [
            &lost[..],
            &twice,
            &stale,
            &back,
            &older,
            &reopened,
            &alive,
            &by_nobody,
            &unended,
        ] {
            assert!(!one_by_one(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_cancel_nobody_knows_of_explains_a_cancelled_job() {
        let call = |from, end: Option<(u64, Answer)>, ask| Call { from, end, ask };
        let calls = [
            call(0, Some((1, opened())), OPEN),
            call(2, None, Ask::Cancel),
            call(3, Some((4, view(0, 0, Phase::Open, 5))), Ask::Get),
            call(5, Some((6, view(0, 0, Phase::Cancelled, 7))), Ask::Get),
        ];
        assert_eq!(
            check(
                &Job {
                    closes_itself: false,
                    forgets: false
                },
                &calls
            ),
            Verdict::Linearizable
        );
        assert_ne!(
            check(
                &Job {
                    closes_itself: false,
                    forgets: false
                },
                &calls[2..]
            ),
            Verdict::Linearizable
        );
    }
}
