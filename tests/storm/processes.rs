//! Several processes that share the clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdin, stdout};
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::backends::Backend;
use super::cells::Work;
use super::conduct::PATIENCE;
use super::policies::{POLICIES, Policy};
use super::tally::Tally;
use super::{Outcome, again};

/// What the clients of one process have to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) backend: Backend,
    pub(crate) url: String,
    /// What a session is told first.
    pub(crate) session: String,
    pub(crate) work: Work,
    pub(crate) policy: &'static Policy,
    pub(crate) clients: usize,
    pub(crate) seconds: Duration,
    pub(crate) ramp: Duration,
    pub(crate) is_async: bool,
}

impl Job {
    fn line(&self) -> String {
        [
            format!("{:?}", self.backend),
            self.url.clone(),
            self.session.clone(),
            format!("{:?}", self.work),
            self.policy.name.into(),
            self.clients.to_string(),
            self.seconds.as_secs_f64().to_string(),
            self.ramp.as_secs_f64().to_string(),
            self.is_async.to_string(),
        ]
        .join("\t")
    }

    pub(crate) fn read(line: &str) -> Outcome<Self> {
        let fields: Vec<_> = line.split('\t').collect();
        let [
            backend,
            url,
            session,
            work,
            policy,
            clients,
            seconds,
            ramp,
            is_async,
        ] = fields[..]
        else {
            return Err("not a job".into());
        };
        let backends = [Backend::Postgres, Backend::Mysql, Backend::Sqlite];
        let mut backends = backends.into_iter();
        let mut works = [Work::HotRow, Work::Transfers].into_iter();
        Ok(Self {
            backend: backends
                .find(|one| format!("{one:?}") == backend)
                .ok_or("a backend")?,
            url: url.into(),
            session: session.into(),
            work: works
                .find(|one| format!("{one:?}") == work)
                .ok_or("a kind of work")?,
            policy: POLICIES
                .iter()
                .find(|one| one.name == policy)
                .ok_or("a policy")?,
            clients: clients.parse()?,
            seconds: Duration::try_from_secs_f64(seconds.parse()?)?,
            ramp: Duration::try_from_secs_f64(ramp.parse()?)?,
            is_async: is_async.parse()?,
        })
    }
}

/// The child: connects, says so, waits for a line, works, and prints what it has counted.
pub(crate) fn answer(job: &Job) -> Outcome<()> {
    let connected = || {
        println!("connected");
        stdout().flush()?;
        stdin().read_line(&mut String::new())?;
        Ok(())
    };
    for tally in job.run(connected, || Ok(()))? {
        println!("{}", tally.line());
    }
    Ok(())
}

/// The parent: children that begin at the same moment.
pub(crate) fn share(
    job: &Job,
    processes: usize,
    mut interrupt: impl FnMut() -> Outcome<()>,
) -> Outcome<Vec<Tally>> {
    let mut part = job.clone();
    part.clients = (job.clients / processes).max(1);
    let children = (0..processes).map(|_| Process::start(&part));
    let mut children = children.collect::<Outcome<Vec<_>>>()?;
    for child in &mut children {
        child.begin()?;
    }
    let end = Instant::now() + job.seconds + Duration::from_millis(50);
    let (sender, told) = channel();
    for mut child in children {
        let sender = sender.clone();
        thread::spawn(move || sender.send(child.tallies().map_err(|error| error.to_string())));
    }
    drop(sender);
    let mut tallies = Vec::new();
    let mut missing = processes;
    while missing > 0 {
        match told.recv_timeout(Duration::from_millis(50)) {
            Ok(told) => {
                tallies.extend(told?);
                missing -= 1;
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
            Err(RecvTimeoutError::Timeout) if Instant::now() < end + 2 * PATIENCE => interrupt()?,
            Err(_) => return Err("a process is stuck".into()),
        }
    }
    Ok(tallies)
}

/// A child, which does not outlive its parent.
struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(job: &Job) -> Outcome<Self> {
        let mut child = again()?
            .args(["--as-clients", &job.line()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("its output")?;
        let mut process = Self {
            child,
            output: BufReader::new(output),
        };
        process.output.read_line(&mut String::new())?;
        Ok(process)
    }

    fn begin(&mut self) -> Outcome<()> {
        let input = self.child.stdin.as_mut().ok_or("its input")?;
        Ok(input.write_all(b"go\n")?)
    }

    fn tallies(&mut self) -> Outcome<Vec<Tally>> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        if !self.child.wait()?.success() {
            return Err("a process has failed".into());
        }
        text.lines().map(Tally::read).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, unless something went wrong.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
