//! Ours beside other supervisors: ractor, kameo and Erlang/OTP do the same, in turn, in one run.
//!
//! ```text
//! # Some minutes, most of them Erlang's storms:
//! cargo bench -p heartbeat-tests --bench other_supervisors
//! # A smaller storm:
//! cargo bench -p heartbeat-tests --bench other_supervisors -- --workers 10000
//! # See `from_main`:
//! cargo bench -p heartbeat-tests --bench other_supervisors -- --from-main
//! ```
//!
//! Each round of each system is a process of its own, so that none lives with what another has left
//! in memory or still runs. The process prints bare nanoseconds and this file makes figures of
//! them, by the same rule for all. In every system:
//!
//! - A message makes a worker panic; the worker takes the time immediately before. The panic hooks
//!   print nothing. - The replacement finds a message waiting and takes the time first thing in its
//!   handler. Where the queue outlives the worker (ours, kameo), the worker has put that message
//!   there itself, before the first time is taken. Where it is lost with it (ractor, Erlang), the
//!   replacement sends it to itself in its start hook: no sender could be earlier. - Restart limits
//!   are lifted, and nothing waits between restarts. The main task causes the next panic. In a
//!   chain the replacement does it itself, as if bad messages lay in the queue one behind the
//!   other.
//!
//! Both runtimes that tokio offers are tried for ractor and kameo, since one is better for latency
//! and the other for a storm. Ours runs as the default config has it: two threads for workers and
//! one for the supervisor. Erlang has a scheduler for each core.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::future::Future;
use std::io::ErrorKind;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

#[path = "other_supervisors/kameo_workers.rs"]
mod kameo_workers;
#[path = "other_supervisors/our_workers.rs"]
mod our_workers;
#[path = "other_supervisors/ractor_workers.rs"]
mod ractor_workers;

/// Restarts before those that count: the first ones pay for pages and caches.
const WARM_UP: usize = 100;

/// A storm that is not over by then is given up, and its row says how far it came. Erlang has the
/// same.
const LIMIT: Duration = Duration::from_secs(120);

/// See [`from_main`].
const FROM_MAIN: &str = "--from-main";

/// How often the neighbour is asked. Erlang has the same.
const EVERY: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    Ours,
    /// Ours, with the neighbour on a thread of its own; in storms only.
    OursApart,
    RactorOneThread,
    RactorAllCores,
    KameoOneThread,
    KameoAllCores,
    Erlang,
}

impl System {
    const ALL: [System; 7] = [
        System::Ours,
        System::OursApart,
        System::RactorOneThread,
        System::RactorAllCores,
        System::KameoOneThread,
        System::KameoAllCores,
        System::Erlang,
    ];

    fn name(self) -> &'static str {
        match self {
            System::Ours => "ours",
            System::OursApart => "ours, the neighbour on a thread of its own",
            System::RactorOneThread => "ractor, one thread",
            System::RactorAllCores => "ractor, all cores",
            System::KameoOneThread => "kameo, one thread",
            System::KameoAllCores => "kameo, all cores",
            System::Erlang => "Erlang/OTP",
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let value = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(position + 1)?.parse::<usize>().unwrap())
    };
    if let Some(system) = value("--system") {
        let task = value("--storm").map(Task::Storm).or(value("--chain").map(Task::Chain));
        return alone(System::ALL[system], task.or(value("--restarts").map(Task::Restarts)).unwrap());
    }
    // Cargo passes `--bench` when it is to be measured.
    let quick = has("--test") || !has("--bench");
    let workers = value("--workers").unwrap_or(if quick { 100 } else { 100_000 });
    let rounds = |usual| value("--rounds").unwrap_or(if quick { 1 } else { usual });
    let count = if quick { 3 } else { 2_000 };
    restarts("--restarts", "each ordered by main as soon as it learns of the one before", count, rounds(15));
    restarts("--chain", "each ordered by the replacement itself with the message after its first", count, rounds(15));
    storms(workers, rounds(3));
}

// ---- the tables --------------------------------------------------------------------------------

/// What one round of one system came to.
struct Measured {
    /// One for each column.
    values: Vec<f64>,
    note: String,
}

/// Restarts told one by one, or (`--chain`) each by the life before it.
fn restarts(measure: &str, how: &str, count: usize, rounds: usize) {
    println!("\nFrom the panic of a worker to the first message its replacement handles; {count} restarts, {how}.");
    table(rounds, &["p50, us", "p99, us"], |system| {
        let mut taken = (system != System::OursApart).then(|| nanoseconds(system, measure, count))??;
        assert_eq!(taken.len(), count, "{} lost a message", system.name());
        let values = [0.5, 0.99].map(|share| quantile(&mut taken, share) / 1e3).to_vec();
        Some(Measured { values, note: String::new() })
    });
}

fn storms(workers: usize, rounds: usize) {
    println!(
        "\n{workers} workers panic at once: until each is replaced and its replacement has handled a message; and how"
    );
    println!(
        "long a healthy neighbour took to answer meanwhile, asked once a millisecond by a thread or process of its own."
    );
    table(rounds, &["all back, ms", "neighbour p99, ms", "neighbour at worst, ms"], |system| {
        let measured = nanoseconds(system, "--storm", workers)?;
        let [taken, answered, asks @ ..] = &*measured else { panic!("{} without an answer", system.name()) };
        let [p99, worst] = [0.99, 1.0].map(|share| quantile(&mut asks.to_vec(), share) / 1e6);
        let given_up = if *answered as usize == workers {
            String::new()
        } else {
            format!("; given up, {answered} of {workers} were back")
        };
        Some(Measured { values: vec![taken / 1e6, p99, worst], note: format!("{} answers{given_up}", asks.len()) })
    });
}

/// Measures all systems in turn, round by round, and prints a table in Markdown. The note is that
/// of the last round.
fn table(rounds: usize, heads: &[&str], mut measure: impl FnMut(System) -> Option<Measured>) {
    println!(
        "Medians of {rounds} rounds, in brackets the lowest and the highest. Ratio: ours / theirs in the same round.\n"
    );
    let columns: String = heads.iter().map(|head| format!(" {head} | ratio |")).collect();
    println!("| system |{columns} |\n|---|{}---|", "---:|".repeat(heads.len() * 2));
    let mut measured: Vec<Vec<Measured>> = System::ALL.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (system, rows) in System::ALL.into_iter().zip(&mut measured) {
            rows.extend(measure(system));
        }
    }
    for (system, rows) in System::ALL.into_iter().zip(&measured) {
        let Some(last) = rows.last() else {
            if system == System::OursApart {
                continue; // Where there is no neighbour.
            }
            println!("| {} | skipped: no erl on PATH |", system.name());
            continue;
        };
        let columns = (0..heads.len()).map(|column| {
            let ratios = measured[0].iter().zip(rows).map(|(ours, theirs)| ours.values[column] / theirs.values[column]);
            format!(" {} | {} |", spread(rows.iter().map(|row| row.values[column])), spread(ratios))
        });
        println!("| {} |{} {} |", system.name(), columns.collect::<String>(), last.note);
    }
}

/// The median, and in brackets the lowest and the highest.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    let [least, middle, most] = [0.0, 0.5, 1.0].map(|share| quantile(&mut values, share));
    format!("{} ({} to {})", short(middle), short(least), short(most))
}

/// Three digits at most before and after.
fn short(value: f64) -> String {
    let digits = if value < 1.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}")
}

/// Zero if there are no values.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share) as usize).copied().unwrap_or_default()
}

// ---- a process for each measurement ------------------------------------------------------------

/// Lets a process of its own measure, and reads the bare numbers it prints; `None` if what it needs
/// is not installed.
fn nanoseconds(system: System, measure: &str, count: usize) -> Option<Vec<f64>> {
    let mut command = match system {
        System::Erlang => erlang(count),
        system => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.arg("--system").arg((system as usize).to_string());
            command.args(from_main().then_some(FROM_MAIN));
            command
        }
    };
    let output = match command.arg(measure).arg(count.to_string()).output() {
        Err(error) if system == System::Erlang && error.kind() == ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {text}{errors}", system.name());
    Some(text.split_whitespace().map(|number| number.parse().unwrap()).collect())
}

/// The same program in Erlang, compiled within the process that runs it.
fn erlang(count: usize) -> Command {
    const COMPILE: &str = "[File | Arguments] = init:get_plain_arguments(), {ok, Module, Code} = compile:file(File, \
                           [binary, report]), {module, Module} = code:load_binary(Module, File, Code), Module:main(Arguments).";
    let mut command = Command::new("erl");
    let processes = (2 * count + 10_000).max(1 << 18).to_string();
    command.args(["-noshell", "+P", &processes, "-eval", COMPILE, "-extra"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/other_supervisors/restarts.erl"));
    command.arg(WARM_UP.to_string()).arg(LIMIT.as_millis().to_string());
    command
}

/// Measures one system and prints nanoseconds: one number for each restart. For a storm it prints
/// its time, how many workers answered, and each round trip of the neighbour.
fn alone(system: System, task: Task) {
    std::panic::set_hook(Box::new(|info| {
        // Printing a panic costs more than the panic.
        if info.payload().downcast_ref() != Some(&"as told") {
            eprintln!("{info}");
        }
    }));
    let count = match task {
        Task::Restarts(_) | Task::Chain(_) => 1,
        Task::Storm(workers) => workers,
    };
    let (probe, done) = Probe::new(count);
    let printed = match system {
        System::Ours | System::OursApart => actix::System::new().block_on(async {
            let is_apart = system == System::OursApart;
            task.measure(our_workers::start(count, is_apart, &probe).await, &probe, done).await
        }),
        System::RactorOneThread | System::RactorAllCores => runtime(system)
            .block_on(async { task.measure(ractor_workers::start(count, &probe).await, &probe, done).await }),
        System::KameoOneThread | System::KameoAllCores => runtime(system)
            .block_on(async { task.measure(kameo_workers::start(count, &probe).await, &probe, done).await }),
        System::Erlang => unreachable!("it has a program of its own"),
    };
    println!("{}", printed.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
    std::process::exit(0); // A graceful stop of a hundred thousand workers would take longer than the storm.
}

fn runtime(system: System) -> Runtime {
    let mut builder = match system {
        System::RactorOneThread | System::KameoOneThread => Builder::new_current_thread(),
        System::Ours | System::OursApart | System::RactorAllCores | System::KameoAllCores | System::Erlang => {
            Builder::new_multi_thread()
        }
    };
    builder.enable_all().build().unwrap()
}

/// Supervised workers of one system, and a neighbour that never panics.
trait Workers: Send + Sync + 'static {
    /// Makes this worker, or its replacement, panic.
    fn panic(&self, worker: usize);

    /// A round trip to the neighbour.
    fn ask(&self) -> impl Future<Output = ()>;
}

/// The state that the workers and the measuring task share.
struct Probe {
    origin: Instant,
    /// Nanoseconds since `origin`: when a worker panicked last.
    panicked_at: AtomicU64,
    /// First messages of replacements that are still to come.
    awaited: AtomicUsize,
    /// Told when the last of them was handled, in nanoseconds since `origin`.
    done: UnboundedSender<u64>,
    /// What the restarts of a chain took; `None` while there is no chain.
    chain: Mutex<Option<Vec<u64>>>,
}

impl Probe {
    /// A probe that waits for the first message of each worker's first life.
    fn new(workers: usize) -> (Arc<Probe>, UnboundedReceiver<u64>) {
        let (sender, done) = unbounded_channel();
        let (panicked_at, awaited) = (AtomicU64::new(0), AtomicUsize::new(workers));
        let (origin, chain) = (Instant::now(), Mutex::new(None));
        (Arc::new(Probe { origin, panicked_at, awaited, done: sender, chain }), done)
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// The last thing a worker does before it panics.
    fn panicking(&self) {
        self.panicked_at.store(self.now(), Ordering::Relaxed);
    }

    /// The first thing a replacement does in the handler of its first message. Returns whether it
    /// is to tell itself to panic.
    fn handled(&self) -> bool {
        let now = self.now();
        let is_last = self.awaited.fetch_sub(1, Ordering::AcqRel) == 1;
        let chained =
            self.chain.lock().unwrap().as_mut().map(|taken| taken.push(now - self.panicked_at.load(Ordering::Relaxed)));
        if is_last {
            self.done.send(now).unwrap();
        }
        chained.is_some() && !is_last
    }
}

#[derive(Clone, Copy)]
enum Task {
    /// This many, one after the other.
    Restarts(usize),
    /// This many, each told by the one before.
    Chain(usize),
    /// This many workers at once.
    Storm(usize),
}

impl Task {
    async fn measure(self, workers: impl Workers, probe: &Probe, mut done: UnboundedReceiver<u64>) -> Vec<u64> {
        done.recv().await.unwrap();
        match self {
            Task::Restarts(count) => restart(workers, probe, done, count).await,
            Task::Chain(count) => chain(workers, probe, done, count).await,
            Task::Storm(count) => storm(workers, probe, done, count).await,
        }
    }
}

async fn restart(workers: impl Workers, probe: &Probe, mut done: UnboundedReceiver<u64>, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    for _ in 0..WARM_UP + count {
        probe.awaited.store(1, Ordering::Release);
        workers.panic(0);
        let handled_at = done.recv().await.unwrap();
        taken.push(handled_at - probe.panicked_at.load(Ordering::Relaxed));
    }
    taken.split_off(WARM_UP)
}

async fn chain(workers: impl Workers, probe: &Probe, mut done: UnboundedReceiver<u64>, count: usize) -> Vec<u64> {
    *probe.chain.lock().unwrap() = Some(Vec::new());
    probe.awaited.store(WARM_UP + count, Ordering::Release);
    workers.panic(0);
    done.recv().await.unwrap();
    probe.chain.lock().unwrap().take().unwrap().split_off(WARM_UP)
}

/// Whether the main task tells the workers to panic. Then everything that a runtime of one thread
/// does is begun by that thread itself, and tokio lets what is begun from outside, the neighbour's
/// questions, go first.
fn from_main() -> bool {
    std::env::args().any(|argument| argument == FROM_MAIN)
}

async fn storm(workers: impl Workers, probe: &Probe, mut done: UnboundedReceiver<u64>, count: usize) -> Vec<u64> {
    let workers = Arc::new(workers);
    let (stop, (told, asked)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
    let (asking, stopped) = (workers.clone(), stop.clone());
    // A thread of its own, so that only the neighbour and not who asks it waits for the storm.
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        told.send(runtime.block_on(ask(&*asking, &stopped))).unwrap();
    });
    tokio::time::sleep(Duration::from_millis(50)).await; // It is under way.
    probe.awaited.store(count, Ordering::Release);
    let (begun, begun_at) = (Instant::now(), probe.now());
    let telling = workers.clone();
    let tell = move || (0..count).for_each(|worker| telling.panic(worker));
    if from_main() {
        tell();
    } else {
        // Like a thread pool that loses its database: none of the systems' own threads is held up
        // by telling, or favoured by being told.
        std::thread::spawn(tell);
    }
    let handled_at = tokio::time::timeout(LIMIT, done.recv()).await.map_or(probe.now(), Option::unwrap);
    let (ended, awaited) = (Instant::now(), probe.awaited.load(Ordering::Acquire));
    stop.store(true, Ordering::Relaxed);
    let mut printed = vec![handled_at - begun_at, (count - awaited) as u64];
    let during = asked.await.unwrap().into_iter().filter(|&(from, to)| to > begun && from < ended);
    printed.extend(during.map(|(from, to)| (to - from).as_nanos() as u64));
    printed
}

/// Asks the neighbour once in each `EVERY` until `stop`; returns when each question was due and
/// when it was answered. An answer that takes longer delays the next questions. They count from
/// when they were due, and are asked after the stop, too: else one long wait would count as one
/// among thousands of short ones.
async fn ask(workers: &impl Workers, stop: &AtomicBool) -> Vec<(Instant, Instant)> {
    let (mut asks, mut due) = (Vec::new(), Instant::now());
    loop {
        let mut begun = due;
        if due > Instant::now() {
            if stop.load(Ordering::Relaxed) {
                return asks;
            }
            tokio::time::sleep_until(due.into()).await;
            begun = Instant::now(); // That the timer is late is not the neighbour's fault.
        }
        workers.ask().await;
        asks.push((begun, Instant::now()));
        due += EVERY;
    }
}
