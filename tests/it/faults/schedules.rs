//! Any schedule of answers and faults, by either protocol on either leg: the caller has one whole answer, or all that came of one and a
//! proper ending, or an error when there was nothing else to be had.

use proptest::{prelude::*, test_runner::TestRunner};
use sluicegate::simulator::{Cut, Head, Script, Step};

use super::rig::{Rig, refusing};
use crate::harness::{Answer, BOTH, CHAT, Client, Http, log, post, safely, whole};

const RETRIES: usize = 3;
const ERROR: &str =
    "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"param\":null,\"code\":\"x\"}}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const BEAT: &str = ": keep-alive\n\n";

/// How an answer goes.
#[derive(Debug, Clone)]
enum Course {
    /// An error answer.
    Refusal(u16),
    /// The connection ends before a head.
    Cut(Cut),
    /// Nothing comes.
    Silence,
    /// An event stream.
    Stream { events: usize, pieces: Vec<usize>, end: End },
}

/// How a stream ends, the last three after so many bytes of it.
#[derive(Debug, Clone)]
enum End {
    Done,
    /// Every choice has finished, and there is no `[DONE]`.
    Finished,
    ErrorEvent,
    Cut(Cut, prop::sample::Index),
    /// As a body that is complete, as HTTP has it.
    Short(prop::sample::Index),
    Stall(prop::sample::Index),
}

#[derive(Debug, Clone)]
struct Case {
    down: Http,
    up: Http,
    /// What each of the two upstreams does with each request; then it does well.
    courses: [Vec<Course>; 2],
    retries: bool,
    /// Whether a candidate that failed is tried once more before the next one.
    same_candidate: bool,
    keys: &'static str,
}

fn course() -> impl Strategy<Value = Course> {
    let cut = || prop_oneof![Just(Cut::Reset), Just(Cut::Close), Just(Cut::ChunkError)];
    let index = any::<prop::sample::Index>;
    let end = prop_oneof![
        4 => Just(End::Done),
        1 => Just(End::Finished),
        1 => Just(End::ErrorEvent),
        3 => (cut(), index()).prop_map(|(cut, at)| End::Cut(cut, at)),
        2 => index().prop_map(End::Short),
        1 => index().prop_map(End::Stall),
    ];
    let stream = (0..4_usize, prop::collection::vec(1..200_usize, 1..12), end);
    prop_oneof![
        2 => prop::sample::select(vec![400, 404, 429, 500, 503]).prop_map(Course::Refusal),
        1 => cut().prop_map(Course::Cut),
        1 => Just(Course::Silence),
        6 => stream.prop_map(|(events, pieces, end)| Course::Stream { events, pieces, end }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let courses = || prop::collection::vec(course(), 0..4);
    let keys = vec![
        "",
        "commit = \"headers\"",
        "commit = \"first_token\"",
        "delivery = \"whole\"",
        "commit_after = \"30ms\"",
        "delivery = \"whole\"\ncommit_after = \"30ms\"",
        "on_disconnect = \"drain\"",
    ];
    let leg = || prop::sample::select(BOTH.to_vec());
    let retries = (prop::bool::weighted(0.8), any::<bool>());
    (leg(), leg(), [courses(), courses()], retries, prop::sample::select(keys)).prop_map(
        |(down, up, courses, (retries, same_candidate), keys)| Case {
            down,
            up,
            courses,
            retries,
            same_candidate,
            keys,
        },
    )
}

/// The text of the `number`th answer of an upstream, told from every other.
fn text(upstream: usize, number: usize, events: usize, end: &End) -> String {
    let event = |content: String| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}}}}]}}\n\n")
    };
    let mut text = event(String::new());
    (0..events).for_each(|event_number| text += &event(format!("{upstream}.{number}.{event_number}")));
    text += match end {
        End::ErrorEvent => ERROR,
        _ => FINISH,
    };
    if matches!(end, End::ErrorEvent | End::Finished) { text } else { text + "data: [DONE]\n\n" }
}

/// What is sent of it.
fn sent(text: &str, end: &End) -> usize {
    match end {
        End::Done | End::Finished | End::ErrorEvent => text.len(),
        // Its very end included.
        End::Cut(_, at) | End::Short(at) | End::Stall(at) => at.index(text.len() + 1),
    }
}

impl Course {
    fn script(&self, upstream: usize, number: usize) -> Script {
        Script::new(match self {
            Self::Refusal(status) => refusing(*status, "", &[]),
            Self::Cut(cut) => vec![Step::Cut(*cut)],
            Self::Silence => vec![Step::Stall],
            Self::Stream { events, pieces, end } => {
                let text = text(upstream, number, *events, end);
                let mut rest = &text[..sent(&text, end)];
                let mut steps = vec![Step::Head(Head::event_stream())];
                let mut sizes = pieces.iter().cycle();
                while let Some(size) = sizes.next().filter(|_| !rest.is_empty()) {
                    let (piece, after) = rest.split_at((*size).min(rest.len()));
                    steps.push(Step::Send(piece.to_owned().into()));
                    rest = after;
                }
                match end {
                    End::Cut(cut, _) => steps.push(Step::Cut(*cut)),
                    End::Stall(_) => steps.push(Step::Stall),
                    End::Done | End::Finished | End::ErrorEvent | End::Short(_) => {}
                }
                steps
            }
        })
    }

    /// The same for every attempt and place: the caller's own doing.
    fn is_the_callers(&self) -> bool {
        matches!(self, Self::Refusal(400 | 404))
    }

    /// A whole answer, for which there is no reason to ask again.
    fn is_whole(&self) -> bool {
        matches!(self, Self::Stream { end: End::Done | End::Finished, .. })
    }

    fn is_silent(&self) -> bool {
        matches!(self, Self::Silence | Self::Stream { end: End::Stall(_), .. })
    }
}

impl Case {
    fn course(&self, upstream: usize, number: usize) -> Course {
        let well = Course::Stream { events: 2, pieces: vec![1000], end: End::Done };
        self.courses[upstream].get(number).cloned().unwrap_or(well)
    }

    /// Whether an upstream is not asked again after this: it may still be at work, or what it sent instead of a head was not HTTP.
    fn is_left_out_after(&self, upstream: usize, number: usize) -> bool {
        let course = self.course(upstream, number);
        let unreadable = self.up == Http::One && matches!(course, Course::Cut(Cut::ChunkError));
        course.is_silent() || unreadable
    }

    async fn run(self) {
        let retry = match (self.retries, self.same_candidate) {
            (false, _) => "retry = \"off\"",
            (true, false) => "retry = { backoff = \"5ms\" }",
            (true, true) => "retry = { backoff = \"5ms\", same_candidate = { within = \"50ms\" } }",
        };
        let http2 = self.up == Http::Two;
        let defaults = format!(
            "{retry}\nbreaker = \"off\"\ntimeout = {{ first_byte = \"1500ms\", first_token = \"4s\", idle = \"1500ms\" }}"
        );
        let rig = Rig::both(&defaults, &format!("http2 = {http2}"), self.keys).await;
        for number in 0..=RETRIES {
            rig.main.queue(self.course(0, number).script(0, number));
            rig.spare.queue(self.course(1, number).script(1, number));
        }
        let address = rig.gateway.address();
        let mut client = Client::connect(address, self.down).await;
        let request = post(address, self.down, "/v1/chat/completions").body(whole(CHAT)).unwrap();
        let answer = safely(client.ask(request)).await;
        client.leave().await;
        let line = rig.line().await;
        let (main, spare) = rig.seen();
        let attempts = log::attempts(&line);
        // A kept connection that ends without an answer is no attempt that failed: the request is sent once more, on a new one.
        assert!((attempts..=2 * attempts).contains(&(main + spare)), "{self:#?} {line:#}");
        assert!(attempts <= if self.retries { RETRIES + 1 } else { 1 }, "{self:#?} {line:#}");
        // The last one that was asked, and what it was to do.
        let last = usize::from(line["upstream"] == "spare");
        let number = [main, spare][last] - 1;
        self.judge(&answer, attempts, (last, number), [main, spare]);
        self.count_billed((last, number), [main, spare]);
        rig.finish(1).await;
    }

    /// No more attempts may be billed than the rules say: an upstream that was silent, and may still be at work, is not asked again; and nobody
    /// is asked after an answer that is the caller's.
    fn count_billed(&self, last: (usize, usize), seen: [usize; 2]) {
        for (upstream, seen) in seen.into_iter().enumerate() {
            let courses = (0..seen).map(|number| self.course(upstream, number));
            assert!(courses.filter(Course::is_silent).count() <= 1, "{upstream} {seen} {self:#?}");
            for number in (0..seen).filter(|number| (upstream, *number) != last) {
                let course = self.course(upstream, number);
                assert!(!course.is_the_callers() && !course.is_whole(), "{upstream}.{number} {self:#?}");
            }
        }
    }

    fn judge(&self, answer: &Answer, attempts: usize, (last, number): (usize, usize), seen: [usize; 2]) {
        let body = answer.text().replace(BEAT, "");
        let context = || format!("{self:#?}\n{answer:#?}\nlast: {last}.{number}, seen: {seen:?}");
        let course = self.course(last, number);
        let held_whole = self.keys.contains("whole");
        if let Course::Stream { events, end, .. } = &course {
            let text = text(last, number, *events, end);
            let sent = &text[..sent(&text, end)];
            // A body that is complete, though `[DONE]` or a part of it is missing, is whole when every choice has finished.
            // The blank line behind the last event may be missing too.
            let enough = matches!(end, End::Short(_)) && sent.contains(FINISH.trim_end());
            let completed = matches!(end, End::Done | End::Finished) || sent == text || enough;
            if body.is_empty() || sent.starts_with(&body) {
                // Nothing was put to it. Whole, or visibly broken off: within an event there is no other way.
                let terminated = body.contains("[DONE]") || body.contains("\"code\":\"x\"");
                let finished = completed && body == sent;
                assert_eq!(answer.whole || terminated, finished || terminated, "{}", context());
                assert!(!held_whole || finished, "half of it: {}", context());
                let lossy = matches!(end, End::Cut(Cut::Reset, _)) || self.up == Http::Two;
                assert!(lossy || body.len() == sent.len(), "not all that came: {}", context());
                return;
            }
            if let Some(at) = body.find("data: {\"error\":").filter(|at| answer.status == 200 && *at > 0) {
                let (before, event) = body.split_at(at);
                assert!(sent.starts_with(before) && before.ends_with("\n\n"), "{}", context());
                assert!(event.ends_with("\n\n") && event.matches("\n\n").count() == 1, "{}", context());
                assert!(answer.whole && !completed && !held_whole, "{}", context());
                return;
            }
        }
        // An error alone, as an answer or as all of a stream that had begun.
        assert!(answer.whole && body.contains("\"error\":{") && !body.contains("[DONE]"), "{}", context());
        assert!(answer.status != 200 || self.keys.contains("commit_after") || body == ERROR, "{}", context());
        let left_out =
            |upstream: usize| (0..seen[upstream]).any(|number| self.is_left_out_after(upstream, number));
        let nothing_left =
            !self.retries || attempts > RETRIES || course.is_the_callers() || (left_out(0) && left_out(1));
        assert!(nothing_left, "an error, though there was another place: {}", context());
    }
}

#[test]
fn the_caller_has_one_answer_or_all_that_came_and_a_proper_ending() {
    let config = ProptestConfig {
        cases: 48,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = |case: Case| {
        runtime.block_on(case.run());
        Ok(())
    };
    TestRunner::new(config).run(&case(), run).unwrap();
}
