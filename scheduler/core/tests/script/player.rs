//! Plays a script on a stage.

use std::error::Error;

use goldenscript::Context;
use rebound_core::command::{Allot, Deadline, Join, Open, Report, Spec};
use rebound_core::event::Cause;
use rebound_core::io::{Read, Request, WorkerReport};
use rebound_core::limits::TICK;
use rebound_core::photos::Photos;
use rebound_core::state::members::Founder;
use rebound_core::state::settings::Setting;
use rebound_core::types::*;

use super::Command;
use super::values::{Span, Who};
use crate::stage::workers::{Seat, longer, report};
use crate::stage::{Stage, words};

type Played<T = ()> = Result<T, Box<dyn Error>>;

/// See the module.
#[derive(Default)]
pub struct Player {
    stage: Option<Stage>,
}

impl goldenscript::Runner for Player {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Played<String> {
        let from = self.stage.as_ref().map_or(0, |stage| stage.now);
        let mut lines = self.play(command)?;
        let stage = self.stage.as_mut().ok_or("a script begins with `servers`")?;
        let passes = stage.now > from && !matches!(command, Command::Servers { .. });
        for (at, line) in stage.take_lines() {
            let when = if passes {
                format!("+{}: ", words::span(at - from))
            } else {
                String::new()
            };
            lines.push(format!("{when}{line}"));
        }
        if passes && lines.is_empty() {
            lines.push(format!("+{}: nothing happens", words::span(stage.now - from)));
        }
        Ok(lines.join("\n"))
    }

    /// Every question that was asked of a server that is up must end, and all replicas must agree.
    fn end_script(&mut self) -> Played {
        let stage = self.stage.as_mut().ok_or("an empty script")?;
        stage.held = false;
        stage.cut.clear();
        stage
            .servers
            .values_mut()
            .for_each(|server| server.disk.slow = false);
        stage.settle();
        stage.advance(120 * SECOND);
        if stage.open_asks() > 0 {
            return Err(format!("{} questions were never answered", stage.open_asks()).into());
        }
        let at: Vec<Index> = stage
            .members_up()
            .map(|replica| replica.status().applied)
            .collect();
        match at.windows(2).all(|pair| pair[0] == pair[1]) {
            true => Ok(()),
            false => Err(format!("two minutes later the servers are at entries {at:?}").into()),
        }
    }
}

impl Player {
    /// Plays one command: what it shows of itself. The stage tells the rest.
    fn play(&mut self, command: &Command) -> Played<Vec<String>> {
        if let Command::Servers { count, log_keep } = command {
            let mut stage = Stage::new(*count, |config| {
                config.log_keep = log_keep.unwrap_or(config.log_keep);
            });
            let led = stage.elect();
            // One more tick, in which the cluster begins.
            stage.advance(TICK);
            self.stage = Some(stage);
            return if led {
                Ok(Vec::new())
            } else {
                Err("nobody leads".into())
            };
        }
        let stage = self.stage.as_mut().ok_or("a script begins with `servers`")?;
        let mut lines = Vec::new();
        match command {
            Command::Servers { .. } => {}
            Command::Tick(ticks) => stage.advance(ticks * TICK),
            Command::Advance(span) => stage.advance(span.0),
            Command::Pause(span) => stage.pause(span.0),
            Command::Elect => {
                if !stage.elect() {
                    return Err("nobody leads".into());
                }
            }
            Command::Start(id) => stage.start(*id),
            Command::Join(id) => stage.join(*id),
            Command::Wipe(id) => stage.wipe(*id),
            Command::Resign(who) => {
                let id = server(stage, Some(*who))?;
                stage.resign(id);
            }
            Command::Crash(_)
            | Command::Cut(_)
            | Command::Heal
            | Command::Hold
            | Command::Deliver
            | Command::Drop
            | Command::Release
            | Command::Disk { .. }
            | Command::Sync(_)
            | Command::Stale(_)
            | Command::Status => lines = machines(stage, command)?,
            Command::Hello { .. }
            | Command::Heartbeat { .. }
            | Command::Result { .. }
            | Command::Leave { .. }
            | Command::Silent(_)
            | Command::Speak(_) => worker(stage, command)?,
            _ => client(stage, command)?,
        }
        stage.settle();
        Ok(lines)
    }
}

fn server(stage: &Stage, who: Option<Who>) -> Played<u64> {
    match who.unwrap_or(Who::Leader) {
        Who::Leader => Ok(stage.leader().ok_or("nobody leads")?),
        Who::Server(id) if stage.replica(id).is_some() => Ok(id),
        Who::Server(id) => Err(format!("server {id} is not up").into()),
    }
}

fn machines(stage: &mut Stage, command: &Command) -> Played<Vec<String>> {
    match command {
        Command::Crash(who) => {
            let id = server(stage, Some(*who))?;
            stage.crash(id);
            return Ok(vec![format!("server {id} is down")]);
        }
        Command::Cut(who) => {
            let id = server(stage, Some(*who))?;
            stage.cut.insert(id);
            return Ok(vec![format!("server {id} is cut off")]);
        }
        Command::Heal => stage.cut.clear(),
        Command::Hold => stage.held = true,
        Command::Release => stage.held = false,
        Command::Deliver => {
            stage.deliver();
        }
        Command::Drop => {
            let lost = stage.lose();
            return Ok(vec![
                if lost > 0 {
                    "lost"
                } else {
                    "there was nothing to lose"
                }
                .into(),
            ]);
        }
        Command::Disk { who, slow } => {
            let id = server(stage, Some(*who))?;
            stage.servers.get_mut(&id).ok_or("no such server")?.disk.slow = *slow;
            return Ok(vec![]);
        }
        Command::Sync(who) => {
            let id = server(stage, Some(*who))?;
            while stage.write(id) {}
        }
        Command::Stale(who) => {
            let id = server(stage, Some(*who))?;
            let replica = stage.servers.get(&id).and_then(|server| server.replica.as_ref());
            let replica = replica.ok_or("it is down")?;
            let (applied, age) = (replica.state().applied(), replica.age());
            let age = age.map_or("of unknown age".to_owned(), |us| format!("{} ms old", us / 1_000));
            return Ok(vec![format!("server {id}: up to {applied}, {age}")]);
        }
        _ => return Ok(status(stage)),
    }
    Ok(vec![])
}

fn status(stage: &Stage) -> Vec<String> {
    let line = |(id, server): (&u64, &crate::stage::Server)| match &server.replica {
        None => format!("server {id}: down"),
        Some(replica) => {
            let status = replica.status();
            let (first, last, applied) = (status.first, status.last, status.applied);
            let role = status.role;
            format!("server {id}: {role}, log {first}-{last}, applied {applied}")
        }
    };
    stage.servers.iter().map(line).collect()
}

fn client(stage: &mut Stage, command: &Command) -> Played {
    let (label, env, at, timeout, request) = match command {
        Command::Submit {
            job,
            env,
            at,
            timeout,
            ..
        } => {
            let request = Request::Open(Box::new(open(command)));
            (
                format!("submit {job}"),
                env.clone(),
                *at,
                timeout.unwrap_or_default().0,
                request,
            )
        }
        Command::Append {
            job,
            photos: count,
            offset,
            content,
            env,
        } => {
            let id = stage.names.find_job(job).ok_or("no such job")?;
            let offset = offset.unwrap_or(queued(stage, id)?);
            let photos = photos(content.as_ref().unwrap_or(job), offset, *count, 0);
            let request = Request::Append {
                job: id,
                offset,
                photos,
            };
            (format!("append {job}"), env.clone(), None, 0, request)
        }
        Command::Close { job, total } => {
            let id = stage.names.find_job(job).ok_or("no such job")?;
            let request = Request::Close {
                job: id,
                total: *total,
            };
            (format!("close {job}"), None, None, 0, request)
        }
        Command::Cancel { job, env } => {
            let id = stage.names.find_job(job).ok_or("no such job")?;
            (
                format!("cancel {job}"),
                env.clone(),
                None,
                0,
                Request::Cancel { job: id },
            )
        }
        Command::Count { times, at, timeout } => {
            let (id, timeout) = (server(stage, *at)?, timeout.unwrap_or_default().0);
            for _ in 1..times.unwrap_or(1) {
                stage.ask(id, "count", "default", timeout, Request::Count);
                stage.settle();
                stage.take_lines();
            }
            ("count".into(), None, *at, timeout, Request::Count)
        }
        Command::Allot {
            name,
            weight,
            waiting,
            jobs,
            given,
        } => {
            let change = Allot {
                name: name.clone(),
                weight: *weight,
                max_waiting: *waiting,
                max_jobs: *jobs,
                max_given: *given,
            };
            let request = Request::Environment(Box::new(change));
            (format!("allot {name}"), None, None, 0, request)
        }
        Command::Set(name, value) => {
            let setting = Setting::named(name).ok_or("no such setting")?;
            let request = Request::Settings(vec![(setting, value.0)]);
            (format!("set {name}"), None, None, 0, request)
        }
        Command::Add {
            server,
            replace,
            timeout,
        } => {
            let request = Request::AddMember {
                new: Founder::named(ReplicaId(*server)),
                replaces: replace.map(ReplicaId),
            };
            let timeout = timeout.unwrap_or_default().0;
            (format!("add {server}"), None, None, timeout, request)
        }
        Command::Remove { server, at } => {
            let request = Request::RemoveMember(ReplicaId(*server));
            (format!("remove {server}"), None, *at, 0, request)
        }
        Command::Transfer { to } => {
            let request = Request::Transfer(to.map(ReplicaId));
            ("transfer".into(), None, None, 0, request)
        }
        Command::Drain(worker) => {
            let request = Request::Drain {
                worker: WorkerId(0),
                name: worker.clone(),
            };
            (format!("drain {worker}"), None, None, 0, request)
        }
        _ => read(stage, command)?,
    };
    let id = server(stage, at)?;
    stage.ask(id, &label, env.as_deref().unwrap_or("default"), timeout, request);
    Ok(())
}

type Asked = (String, Option<String>, Option<Who>, u64, Request);

fn read(stage: &Stage, command: &Command) -> Played<Asked> {
    let job = |name: &str| stage.names.find_job(name).ok_or("no such job");
    let asked = match command {
        Command::Get {
            job: name,
            at,
            env,
            timeout,
        } => {
            let read = Read::Job {
                job: job(name)?,
                seen: 0,
            };
            let timeout = timeout.unwrap_or_default().0;
            (format!("get {name}"), env.clone(), *at, timeout, read)
        }
        Command::Watch { job: name, timeout } => {
            let id = job(name)?;
            let leader = stage.replica(server(stage, None)?).ok_or("nobody leads")?;
            let seen = leader
                .state()
                .jobs
                .get(id)
                .map_or(0, |(_, record)| record.changed);
            let read = Read::Job { job: id, seen };
            (
                format!("watch {name}"),
                None,
                None,
                timeout.unwrap_or_default().0,
                read,
            )
        }
        Command::Task(task) => {
            let label = format!("task {}/{}", task.job, task.first);
            let read = Read::Task {
                job: job(&task.job)?,
                task: task.first,
            };
            (label, None, None, 0, read)
        }
        Command::Jobs => {
            let read = Read::Jobs {
                before: JobId(0),
                limit: 0,
            };
            ("jobs".into(), None, None, 0, read)
        }
        Command::Workers => ("workers".into(), None, None, 0, Read::Workers),
        Command::Settings => ("settings".into(), None, None, 0, Read::Settings),
        Command::Environments => ("environments".into(), None, None, 0, Read::Environments),
        Command::Members => ("members".into(), None, None, 0, Read::Members),
        _ => return Err("not a question".into()),
    };
    let (label, env, at, timeout, read) = asked;
    Ok((label, env, at, timeout, Request::Read(read)))
}

fn open(command: &Command) -> Open {
    let Command::Submit {
        job,
        photos: count,
        key,
        open,
        priority,
        deadline,
        recogniser,
        attempts,
        drop_late,
        memory,
        labels,
        uri,
        content,
        ..
    } = command
    else {
        unreachable!("only for submit")
    };
    let labels = (0..*labels).map(|n| (format!("label-{n:02}"), String::new()));
    Open {
        key: key.clone().unwrap_or_default().0.into_bytes(),
        name: job.clone(),
        labels: labels.collect(),
        priority: *priority,
        deadline: deadline.map_or(Deadline::None, |span| Deadline::In(span.0)),
        spec: Spec {
            recogniser: recogniser.clone().unwrap_or("noop".into()),
            resources: Resources {
                memory_mib: *memory,
                ..Resources::default()
            },
            photo_timeout: 0,
            max_attempts: *attempts,
            drop_late: *drop_late,
            region: String::new(),
        },
        photos: photos(content.as_ref().unwrap_or(job), 0, *count, uri.0),
        close: !*open,
    }
}

/// Photos `first` and so on of a shelf of that name; `size`: how long each URI is at least.
fn photos(of: &str, first: u64, count: u64, size: usize) -> Photos {
    let uri = |n| format!("{:x<size$}", format!("file:///{of}/{n}.jpg"));
    (first..first + count).map(uri).collect()
}

fn queued(stage: &Stage, job: JobId) -> Played<u64> {
    let leader = stage.replica(server(stage, None)?).ok_or("nobody leads")?;
    Ok(leader.state().jobs.get(job).map_or(0, |(_, job)| job.tasks))
}

fn worker(stage: &mut Stage, command: &Command) -> Played {
    let (name, said) = match command {
        Command::Hello { .. } => return hello(stage, command),
        Command::Silent(name) | Command::Speak(name) => {
            let seat = stage.workers.get_mut(name).ok_or("no such worker")?;
            seat.silent = matches!(command, Command::Silent(_));
            return Ok(());
        }
        Command::Heartbeat {
            worker,
            full,
            answer,
            fetch,
            service,
            started,
        } => {
            let started = started.as_ref().map(|tasks| {
                let job = stage.names.find_job(&tasks.job).ok_or("no such job");
                job.map(|job| (job, tasks.last))
            });
            let started = started.transpose()?;
            let seat = stage.workers.get_mut(worker).ok_or("no such worker")?;
            let (was, now) = (&mut seat.measured, |one: &Option<Span>, was| {
                one.map_or(was, |one| one.0)
            });
            *was = (now(answer, was.0), now(fetch, was.1), now(service, was.2));
            if let Some((job, task)) = started {
                let fence = seat
                    .fence(job, task)
                    .ok_or("the worker was never given this task")?;
                seat.started.insert((job, fence), task + 1);
            }
            let said = WorkerReport::Heartbeat {
                running: 0,
                spooled: 0,
                spool_full: *full,
                pace: seat.pace(),
                cursors: seat.cursors(),
            };
            (worker, said)
        }
        Command::Leave { worker, empty } => (worker, WorkerReport::Leaving { empty: *empty }),
        Command::Result {
            worker,
            tasks,
            given,
            cause,
            size,
        } => {
            let job = stage.names.find_job(&tasks.job).ok_or("no such job")?;
            let seat = stage.workers.get(worker).ok_or("no such worker")?;
            let cause = cause.as_deref().map(cause_named).transpose()?;
            let mut reports: Vec<Report> = Vec::new();
            for task in tasks.first..=tasks.last {
                let fence = match given {
                    Some(name) => stage.names.find_fence(name),
                    None => seat.fence(job, task),
                };
                let fence = fence.ok_or("the worker was never given this task")?;
                match reports.last_mut() {
                    // As agents do: what ended alike under one fence goes together.
                    Some(last) if last.given == fence => *last = longer(last, size.0),
                    _ => reports.push(report(job, task, fence, cause, size.0)),
                }
            }
            let said = WorkerReport::Results {
                reports,
                running: 0,
                spooled: 0,
            };
            (worker, said)
        }
        _ => return Err("not a worker's word".into()),
    };
    match stage.speak(name, said) {
        true => Ok(()),
        false => Err(format!("{name} has no stream").into()),
    }
}

fn hello(stage: &mut Stage, command: &Command) -> Played {
    let Command::Hello {
        worker,
        slots,
        recognisers,
        memory,
        process,
        at,
    } = command
    else {
        unreachable!("only for hello")
    };
    let names = recognisers.as_deref().unwrap_or("noop").split(',');
    let join = Join {
        name: worker.clone(),
        nonce: process.unwrap_or(1),
        slots: slots.unwrap_or(1),
        resources: Resources {
            memory_mib: memory.unwrap_or(1_024),
            ..Resources::default()
        },
        pool: Pool::default(),
        recognisers: names
            .map(|name| Recogniser {
                name: name.into(),
                digest: Vec::new(),
            })
            .collect(),
        version: "test".into(),
    };
    match stage.workers.get_mut(worker) {
        // The same process keeps what it said of itself.
        Some(seat) if process.is_none_or(|process| process == seat.join.nonce) => {}
        Some(seat) => seat.begin_again(join),
        None => {
            stage.workers.insert(worker.clone(), Seat::new(join));
        }
    }
    let id = server(stage, *at)?;
    stage.hello(worker, id);
    Ok(())
}

fn cause_named(name: &str) -> Played<Cause> {
    Ok(match name {
        "input" => Cause::Input,
        "fetch" => Cause::Fetch,
        "crashed" => Cause::Crashed,
        "timeout" => Cause::Timeout,
        "recogniser" => Cause::Recogniser,
        "released" => Cause::Released,
        other => return Err(format!("unknown cause {other}").into()),
    })
}
