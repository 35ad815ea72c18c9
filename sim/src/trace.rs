//! A trace for people: one line an event, in four columns: seconds of virtual time, who, what, and more about it.
//!
//! `who` is `s2` for a server, `a0` for an agent, `c7` for a client, `op` for the operator, `-` for the world. `what` is a happening of the
//! world, or `*` before something the run counts.

use rebound_core::replica::message_words;

use crate::world::Happening;

/// Takes a line.
pub type Tell = Box<dyn FnMut(&str)>;

/// Where the lines go, if anywhere.
#[derive(Default)]
pub struct Trace {
    tell: Option<Tell>,
}

impl Trace {
    /// To a reader.
    pub(crate) fn to(tell: Tell) -> Trace {
        Trace { tell: Some(tell) }
    }

    /// True when somebody reads.
    pub(crate) fn is_on(&self) -> bool {
        self.tell.is_some()
    }

    pub(crate) fn line(&mut self, now: u64, who: &str, what: &str, more: &str) {
        if let Some(tell) = &mut self.tell {
            let (s, us) = (now / 1_000_000, now % 1_000_000);
            tell(format!("{s:>4}.{us:06} {who:<5} {what:<14} {more}").trim_end());
        }
    }

    /// Something that is counted.
    pub(crate) fn note(&mut self, now: u64, what: &str) {
        self.line(now, "-", "*", what);
    }

    /// What the operator asks, or is told.
    pub(crate) fn operator(&mut self, now: u64, what: &str, more: &impl std::fmt::Debug) {
        if self.is_on() {
            self.line(now, "op", what, &cut(more));
        }
    }

    pub(crate) fn happening(&mut self, now: u64, happening: &Happening) {
        if self.is_on() {
            let (who, what, more) = words(happening);
            self.line(now, &who, what, &more);
        }
    }
}

/// Who, what, and more about it.
fn words(happening: &Happening) -> (String, &'static str, String) {
    use Happening::*;
    let s = |id: &u64| format!("s{id}");
    let a = |id: &usize| format!("a{id}");
    let c = |id: &usize| format!("c{id}");
    let none = String::new;
    match happening {
        Peer { from, to, bytes } => (s(to), "message", format!("of s{from}: {}", message_words(bytes))),
        Wake { server, .. } => (s(server), "tick", none()),
        Gathered { server, .. } => (s(server), "inputs", none()),
        Probe => ("-".into(), "probe", none()),
        Synced { server, order, .. } => (s(server), "synced", format!("order {order}")),
        Planned { server, plan, .. } => (
            s(server),
            "plan",
            format!("{} runs from index {}", plan.assign.len(), plan.at),
        ),
        SnapshotHalf { server, .. } => (s(server), "half-sent", none()),
        Snapshot { from, to, whole, .. } => {
            let how = if *whole { "whole" } else { "cut" };
            (s(to), "snapshot", format!("of s{from}, {how}"))
        }
        SnapshotDone { server, to, ok, .. } => (s(server), "snapshot-sent", format!("to s{to}: {ok}")),
        AgentWake { agent, .. } => (a(agent), "tick", none()),
        Connect { agent, .. } => (a(agent), "connect", none()),
        ToAgent {
            agent,
            stream,
            message,
        } => (
            a(agent),
            "hears",
            format!("s{}: {}", stream.server, cut(&message.body)),
        ),
        ToServer {
            agent,
            stream,
            message,
        } => (
            s(&stream.server),
            "hears",
            format!("a{agent}: {}", cut(&message.body)),
        ),
        KeepAlive { agent, stream, .. } => (s(&stream.server), "sign", format!("to a{agent}")),
        TryDirect { agent, stream } => (a(agent), "tries direct", format!("s{}", stream.server)),
        Broken { agent, stream } => (
            a(agent),
            "broken",
            format!("stream {} to s{}", stream.number, stream.server),
        ),
        Worked { agent, input, .. } => (a(agent), "worked", cut(input)),
        Ask { client, tries } => (c(client), "asks", format!("try {tries}")),
        Asked { server, question, .. } => (s(server), "asked", format!("by {}", question.by.actor)),
        Answered { client, answer, .. } => (c(client), "answered", cut(answer)),
        Read => ("-".into(), "read", none()),
        Meddle => ("-".into(), "meddle", none()),
        CallAnswered { client, call, answer } => {
            (c(client), "call-answered", format!("{call}: {}", cut(answer)))
        }
        Fault(kind) => ("-".into(), "fault", kind.name().into()),
        Churn { .. } => ("-".into(), "churn", none()),
        Start { server } => (s(server), "start", none()),
        StartAgent { agent } => (a(agent), "start", none()),
        Greet => ("-".into(), "greet", none()),
        Operate => ("-".into(), "operate", none()),
        Dismissed { server, .. } => (s(server), "dismissed", none()),
        Handover(step) => ("-".into(), "handover", cut(step)),
        Buying(step) => ("-".into(), "machines", step.words()),
        Mend { reason } => ("-".into(), "mend", format!("cut {reason}")),
        Calm => ("-".into(), "calm", none()),
        Look => ("-".into(), "look", none()),
    }
}

/// The beginning of what something says of itself.
fn cut(what: &impl std::fmt::Debug) -> String {
    const MOST: usize = 160;
    let text = format!("{what:?}");
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text,
    }
}
