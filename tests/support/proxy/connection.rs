use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Protocol;
use super::dialog::{Dialog, Turn};
use super::pipe::Pipe;
use super::shared::Shared;
use cut::{Running, Stage};

mod cut;

/// A client, its server, and what happens between them.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    number: u64,
    woken: UnixStream,
    /// `None` when it has been cut off and the server has not.
    client: Option<Pipe>,
    server: Option<Pipe>,
    dialog: Dialog,
    /// How often the client has asked for an answer, and the server has given it.
    asked: u64,
    answered: u64,
    cut: Option<Running>,
    is_over: bool,
}

impl Connection {
    pub(super) fn new(
        protocol: Protocol,
        client: TcpStream,
        server: TcpStream,
        shared: Arc<Shared>,
    ) -> std::io::Result<Self> {
        let (client, server) = (Pipe::new(client)?, Pipe::new(server)?);
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self {
            number: shared.enters(waker),
            shared,
            woken,
            client: Some(client),
            server: Some(server),
            dialog: Dialog::new(protocol),
            asked: 0,
            answered: 0,
            cut: None,
            is_over: false,
        })
    }

    pub(super) fn run(mut self) {
        while !self.is_over {
            let ready = self.wait();
            if self.shared.is_to_close(self.number) {
                break;
            }
            self.go_on();
            self.receive(ready);
            self.take_requests();
            self.take_responses();
            self.send();
            self.look_who_is_gone();
        }
        self.close_client();
        if let Some(server) = self.server.take() {
            server.close();
        }
        if let Some(Running { hit, .. }) = self.cut.take() {
            self.shared.has_finished(hit);
        }
    }

    fn stage(&self) -> Option<Stage> {
        self.cut.as_ref().map(|cut| cut.stage)
    }

    /// Waits for something to do, and says who has sent something: client, server.
    fn wait(&self) -> [bool; 2] {
        let mut fds = vec![PollFd::from_borrowed_fd(self.woken.as_fd(), PollFlags::IN)];
        let pipes = [&self.client, &self.server].map(Option::as_ref);
        let reads = [self.hears_client(), self.hears_server()];
        let mut places = [None; 2];
        for (i, pipe) in pipes.into_iter().enumerate() {
            let Some(pipe) = pipe.filter(|_| !self.is_stalled()) else {
                continue;
            };
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, reads[i]);
            events.set(PollFlags::OUT, !pipe.output.is_empty());
            // Without any, hanging up would be told all the same, again and again.
            if !events.is_empty() {
                places[i] = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), events));
            }
        }
        let timeout = match self.stage() {
            Some(Stage::Held(Some(until))) => {
                let left = until.saturating_duration_since(Instant::now());
                Some(Timespec::try_from(left).expect("not that long"))
            }
            _ => None,
        };
        // An interruption is as good as nothing to do.
        _ = poll(&mut fds, timeout.as_ref());
        _ = (&self.woken).read(&mut [0; 64]);
        let quiet = PollFlags::OUT;
        let has_come = |place: usize| !fds[place].revents().difference(quiet).is_empty();
        [0, 1].map(|i| reads[i] && places[i].is_some_and(has_come))
    }

    fn is_stalled(&self) -> bool {
        matches!(self.stage(), Some(Stage::Stalled(_)))
    }

    /// Whether messages of the client are taken now.
    fn listens(&self) -> bool {
        let stage = self.stage();
        let listens = stage.is_none_or(|stage| {
            matches!(stage, Stage::Sending | Stage::Keeping | Stage::HalfClosed)
        });
        listens && !self.is_over
    }

    /// Whoever does not read what is sent must not be sent more and more.
    fn hears_client(&self) -> bool {
        let is_read = |server: &Pipe| server.output.is_empty();
        let talks = |client: &Pipe| !client.has_ended;
        self.listens()
            && self.client.as_ref().is_some_and(talks)
            && self.server.as_ref().is_some_and(is_read)
    }

    fn hears_server(&self) -> bool {
        let is_read = |client: &Pipe| client.output.is_empty();
        self.server.as_ref().is_some_and(|server| !server.has_ended)
            && self.client.as_ref().is_none_or(is_read)
    }

    fn receive(&mut self, [client, server]: [bool; 2]) {
        for (pipe, is_ready) in [(&mut self.client, client), (&mut self.server, server)] {
            if let Some(pipe) = pipe.as_mut().filter(|_| is_ready) {
                pipe.read();
            }
        }
    }

    fn take_requests(&mut self) {
        while self.listens() {
            let Some(client) = &mut self.client else {
                return;
            };
            let Some(request) = self.dialog.request(&mut client.input) else {
                return;
            };
            match request.turn {
                Turn::AsksForEncryption => client.output.push(b'N'),
                Turn::Login => self.pass_on(request),
                _ if request.is_aside => self.pass_on(request),
                _ => self.meet(request),
            }
        }
    }

    fn take_responses(&mut self) {
        while !self.is_stalled() && !self.is_over {
            let Some(server) = &mut self.server else {
                return;
            };
            let Some(response) = self.dialog.response(&mut server.input) else {
                break;
            };
            self.hand_back(response);
        }
    }

    /// Sends what can be sent.
    fn send(&mut self) {
        if !self.is_stalled() {
            for pipe in [&mut self.client, &mut self.server].into_iter().flatten() {
                pipe.write();
            }
        }
    }

    fn look_who_is_gone(&mut self) {
        let has_ended = |pipe: &Option<Pipe>| pipe.as_ref().is_some_and(|pipe| pipe.has_ended);
        let is_sent = |pipe: &Option<Pipe>| pipe.as_ref().is_none_or(|pipe| pipe.output.is_empty());
        if has_ended(&self.server) && !self.is_over && !self.is_stalled() {
            self.is_answered();
            self.is_over |= is_sent(&self.client);
        }
        self.is_over |= self.listens() && has_ended(&self.client) && is_sent(&self.server);
    }

    fn close_client(&mut self) {
        if let Some(client) = self.client.take() {
            let resets = self.shared.lock().resets;
            if resets {
                client.reset()
            } else {
                client.close()
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.leaves(self.number);
    }
}
