use std::time::Instant;

use super::super::dialog::{End, Request, Response, Turn};
use super::super::plan::{Cut, Until};
use super::super::shared::Hit;
use super::Connection;

/// A cut that is under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) hit: Hit,
    /// The number of the answer to the message.
    answer: u64,
    pub(super) stage: Stage,
    /// What the server has not got yet.
    kept: Vec<Request>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// The server gets the message, and what belongs to it.
    Sending,
    /// The message, and what belongs to it, is kept back.
    Keeping,
    /// Held up: until then, or until the test releases it.
    Held(Option<Instant>),
    /// The server's answer is awaited.
    Answering,
    /// Nothing moves. The proxy had been told to go on so often when that began.
    Stalled(u64),
    /// The client gets nothing any more.
    HalfClosed,
}

impl Connection {
    /// Ends a delay that is over.
    pub(super) fn go_on(&mut self) {
        let Some(cut) = &mut self.cut else { return };
        match cut.stage {
            Stage::Stalled(before) if self.shared.resumed() > before => {
                let Running { hit, kept, .. } = self.cut.take().expect("just seen");
                for request in kept {
                    self.pass_on(request);
                }
                self.shared.has_finished(hit);
            }
            Stage::Held(until) => {
                let is_over = match until {
                    Some(until) => Instant::now() >= until,
                    None => self.shared.progress(cut.hit.plan).released,
                };
                let server = self.server.as_mut().expect("not cut off");
                if !is_over || !server.output.is_empty() {
                    return;
                }
                if let Cut::Late(_) = cut.hit.cut {
                    let kept = cut.kept.drain(..);
                    server.output = kept.flat_map(|request| request.bytes).collect();
                    cut.stage = Stage::Answering;
                } else {
                    self.make();
                    self.is_over = true;
                }
            }
            _ => {}
        }
    }

    /// A message, and the cut that is planned for it, if any.
    pub(super) fn meet(&mut self, request: Request) {
        let Some(hit) = self.shared.sent(&request, self.cut.is_none()) else {
            return self.pass_on(request);
        };
        self.send();
        let (stage, kept) = match hit.cut {
            Cut::BeforeSent => (Stage::Answering, Vec::new()),
            Cut::Stall => (Stage::Stalled(self.shared.resumed()), vec![request.clone()]),
            Cut::Late(_) => (Stage::Keeping, Vec::new()),
            _ => (Stage::Sending, Vec::new()),
        };
        self.cut = Some(Running {
            hit,
            answer: self.asked,
            stage,
            kept,
        });
        match hit.cut {
            Cut::BeforeSent => {
                self.make();
                self.is_over = true;
            }
            Cut::Stall => {
                self.make();
            }
            _ if request.turn == Turn::OneWay => {
                self.shared.mishap(format!("{request}: has no answer"));
                self.is_over = true;
            }
            _ => self.pass_on(request),
        }
    }

    /// Hands a message on to the server, or to what is kept for it.
    pub(super) fn pass_on(&mut self, request: Request) {
        let turn = request.turn;
        let server = self.server.as_mut().expect("not cut off");
        match &mut self.cut {
            Some(cut) if matches!(cut.stage, Stage::Keeping) => cut.kept.push(request),
            _ => server.output.extend(request.bytes),
        }
        match turn {
            Turn::OneWay => self.shared.went_aside(),
            Turn::Asks => self.asked += 1,
            _ => return,
        }
        let stage = self.stage();
        if matches!(stage, Some(Stage::Sending | Stage::Keeping)) {
            self.send();
            self.is_complete();
        }
    }

    /// What a cut is for has come to its end.
    fn is_complete(&mut self) {
        let cut = self.cut.as_mut().expect("under way");
        match cut.hit.cut {
            Cut::AnswerLost => cut.stage = Stage::Answering,
            Cut::Late(until) => {
                cut.stage = held(until);
                self.make();
                self.close_client();
            }
            Cut::MidStatement(until) => {
                cut.stage = held(until);
                self.shared.is_in_the_middle(cut.hit);
            }
            Cut::HalfClose => {
                cut.stage = Stage::HalfClosed;
                self.make();
                if let Some(client) = &mut self.client {
                    client.shut();
                }
            }
            Cut::StallAnswer => {
                cut.stage = Stage::Stalled(self.shared.resumed());
                self.make();
            }
            Cut::BeforeSent | Cut::Stall => unreachable!("they need not wait for the rest"),
        }
    }

    /// Hands a message on to the client, or loses it.
    pub(super) fn hand_back(&mut self, response: Response) {
        let is_lost = match &self.cut {
            None => false,
            Some(cut) => matches!(cut.stage, Stage::HalfClosed) || self.answered >= cut.answer,
        };
        if let Some(end @ (End::Answer | End::Aside)) = response.end {
            self.answered += 1;
            self.shared.answered(end);
        }
        if !is_lost {
            if let Some(client) = &mut self.client {
                client.output.extend(response.bytes);
            }
        } else if response.end.is_some() {
            self.is_answered();
        }
    }

    /// The server has nothing more to say to the message, or nothing more at all.
    pub(super) fn is_answered(&mut self) {
        let Some(Running { hit, stage, .. }) = self.cut else {
            return;
        };
        match (stage, hit.cut) {
            (Stage::Answering, Cut::AnswerLost) => {
                self.make();
                self.is_over = true;
            }
            (Stage::Answering, _) => self.is_over = true,
            (Stage::Held(_), Cut::MidStatement(_)) => {
                self.shared.mishap("the answer came before the cut".into());
                self.is_over = true;
            }
            _ => {}
        }
    }

    /// It comes to the cut, which the client can notice from now on.
    fn make(&self) {
        let cut = self.cut.as_ref().expect("under way");
        self.shared.has_cut(cut.hit);
    }
}

/// Held up from now on.
fn held(until: Until) -> Stage {
    Stage::Held(match until {
        Until::Released => None,
        Until::Passed(duration) => Some(Instant::now() + duration),
    })
}
