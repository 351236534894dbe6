use std::sync::mpsc;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Keeps what is written to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that reports the start of a write, and ends it with the result that the test then sends: a number of bytes, or an error.
struct Scripted {
    sink: Sink,
    began: mpsc::Sender<()>,
    script: mpsc::Receiver<io::Result<usize>>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.began.send(());
        let count = self.script.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
        self.sink.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Script {
    queue: Queue,
    sink: Sink,
    began: mpsc::Receiver<()>,
    say: mpsc::Sender<io::Result<usize>>,
}

fn scripted(bound: usize) -> Script {
    let sink = Sink::default();
    let (began_sender, began) = mpsc::channel();
    let (say, script) = mpsc::channel();
    let out = Scripted { sink: sink.clone(), began: began_sender, script };
    Script { queue: Queue::start(Box::new(out), bound, LogFormat::Json), sink, began, say }
}

/// Number of dropped lines that a report line states.
fn lost_lines(line: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["message"], "log lines were dropped");
    value["dropped"].as_u64().unwrap()
}

#[test]
fn lines_come_out_in_order_from_many_threads() {
    let sink = Sink::default();
    let queue = Queue::start(Box::new(sink.clone()), DEFAULT_BOUND, LogFormat::Json);
    thread::scope(|scope| {
        for thread in 0..4 {
            let queue = queue.clone();
            scope.spawn(move || (0..500).for_each(|n| queue.push(format!("{thread} {n}").as_bytes())));
        }
    });
    assert!(queue.flush(LONG));
    let lines = sink.lines();
    for thread in 0..4 {
        let own: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&format!("{thread} "))).collect();
        assert_eq!(own, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    assert_eq!((lines.len(), queue.dropped()), (2000, 0));
}

#[test]
fn a_stalled_output_costs_lines_and_never_the_caller() {
    let Script { queue, sink, began, say } = scripted(100);
    queue.push(&[b'a'; 60]);
    began.recv().unwrap();
    // 61 bytes are being written: 38 bytes and a line feed still fit, and no more.
    queue.push(&[b'b'; 38]);
    queue.push(b"");
    queue.push(&[b'c'; 200]);
    assert_eq!(queue.dropped(), 2);
    assert!(!queue.flush(Duration::ZERO));

    say.send(Ok(usize::MAX)).unwrap();
    drop(say);
    assert!(queue.flush(LONG));
    let lines = sink.lines();
    assert_eq!(lines[..2], ["a".repeat(60), "b".repeat(38)]);
    assert_eq!((lines.len(), lost_lines(&lines[2])), (3, 2));
    assert_eq!(queue.dropped(), 2);
}

#[test]
fn dropped_lines_are_told_though_no_line_follows() {
    let Script { queue, sink, began, say } = scripted(10);
    queue.push(b"12345");
    began.recv().unwrap();
    queue.push(b"too long by now");
    say.send(Ok(usize::MAX)).unwrap();
    drop(say);
    assert!(queue.flush(LONG));
    assert_eq!(lost_lines(&sink.lines()[1]), 1);
}

#[test]
fn a_failed_write_is_counted_and_the_next_line_begins_afresh() {
    let Script { queue, sink, began, say } = scripted(1000);
    queue.push(b"one");
    began.recv().unwrap();
    queue.push(b"two");
    queue.push(b"three");
    say.send(Ok(usize::MAX)).unwrap();
    // "two" and half of "three" are written, and then the output fails.
    began.recv().unwrap();
    say.send(Ok(6)).unwrap();
    began.recv().unwrap();
    say.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    assert!(queue.flush(LONG));
    assert_eq!(queue.dropped(), 1);

    drop(say);
    queue.push(b"four");
    assert!(queue.flush(LONG));
    let lines = sink.lines();
    assert_eq!(lines[..4], ["one", "two", "th", "four"]);
    assert_eq!((lines.len(), lost_lines(&lines[4])), (5, 1));
}

#[test]
fn an_output_that_would_block_is_asked_again() {
    let Script { queue, sink, began, say } = scripted(1000);
    queue.push(b"one");
    began.recv().unwrap();
    say.send(Err(io::ErrorKind::WouldBlock.into())).unwrap();
    drop(say);
    assert!(queue.flush(LONG));
    assert_eq!((sink.lines(), queue.dropped()), (vec!["one".to_owned()], 0));
}

#[test]
fn the_writer_ends_with_the_last_handle_and_leaves_nothing_behind() {
    struct Notified(Sink, mpsc::Sender<()>);
    impl Write for Notified {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Notified {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }
    let (ended, end) = mpsc::channel();
    let sink = Sink::default();
    let queue = Queue::start(Box::new(Notified(sink.clone(), ended)), 1000, LogFormat::Text);
    queue.push(b"last words");
    drop(queue);
    end.recv().unwrap();
    assert_eq!(sink.lines(), ["last words"]);
}
