//! How long messages wait and are handled, as `/metrics` shows it with `metrics.histograms`.

use actix_web::{App, test};
use heartbeat_actors::WorkerSpec;
use heartbeat_actors::http;
use heartbeat_actors::pool::Routing;
use heartbeat_actors::testkit::{Fault, TestNode};
use heartbeat_actors::worker::Placement;

use crate::{Add, Counter, STUCK, kit, kit_with, millis, seconds};

const ON: &str = "metrics.histograms = true";

async fn metrics(node: &TestNode) -> String {
    let app = test::init_service(App::new().configure(http::routes(node))).await;
    let request = test::TestRequest::get().uri("/metrics").to_request();
    String::from_utf8(test::call_and_read_body(&app, request).await.to_vec()).unwrap()
}

/// A figure of the histogram of this name, of the workers that count.
fn figure(text: &str, name: &str, ending: &str, bound: Option<&str>) -> f64 {
    let kind = std::any::type_name::<Counter>();
    let start = format!("heartbeat_{name}_seconds_{ending}{{");
    let is_wanted = |line: &&str| {
        let has_bound = bound.is_none_or(|bound| line.contains(&format!("le=\"{bound}\"")));
        line.starts_with(&start) && line.contains(&format!("kind=\"{kind}\"")) && has_bound
    };
    let line = text.lines().find(is_wanted).unwrap_or_else(|| panic!("no {start} {bound:?} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// How many messages waited, and were handled, and for how many seconds altogether.
fn figures(text: &str) -> [(f64, f64); 2] {
    ["mailbox_wait", "handling"].map(|name| {
        let sum = figure(text, name, "sum", None);
        // A wait is known to 64 ns.
        (figure(text, name, "count", None), (sum * 1e6).round() / 1e6)
    })
}

#[test]
fn a_message_waits_while_the_one_before_is_handled() {
    kit_with(ON, async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        counter.until_up().await.unwrap();
        node.inject("counter", Fault::Block(seconds(2)));
        let first = counter.send(Add(1));
        node.advance(millis(500)).await;
        let second = counter.send(Add(1));
        assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
        let text = metrics(&node).await;
        assert_eq!(figures(&text), [(2.0, 1.5), (2.0, 2.0)]);
        let at_most = |name, bound| figure(&text, name, "bucket", Some(bound));
        assert_eq!(["0.00001", "1.0", "2.5", "+Inf"].map(|bound| at_most("mailbox_wait", bound)), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(["0.00001", "1.0", "2.5", "+Inf"].map(|bound| at_most("handling", bound)), [1.0, 1.0, 2.0, 2.0]);
    });
}

#[test]
fn a_wait_lasts_through_a_replacement_and_no_count_falls() {
    kit_with(ON, async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        counter.until_up().await.unwrap();
        node.inject("counter", Fault::Block(seconds(100)));
        let begun = tokio::time::Instant::now();
        let (stuck, next) = (counter.send(Add(1)), counter.send(Add(1)));
        assert_eq!((stuck.await, next.await), (Err(STUCK), Ok(1)));
        let replaced_after = begun.elapsed().as_secs_f64();
        let [(waited, sum), (handled, _)] = figures(&metrics(&node).await);
        assert_eq!((waited, handled), (2.0, 1.0), "the first is in hand still");
        assert!(sum > 5.0 && sum <= replaced_after, "{sum} of {replaced_after}");
        node.advance(seconds(120)).await;
        assert_eq!(figures(&metrics(&node).await)[1], (2.0, 100.0), "its thread has come back");
        counter.remove();
        node.advance(seconds(1)).await;
        assert_eq!(figures(&metrics(&node).await)[1], (2.0, 100.0));
    });
}

#[test]
fn a_message_of_a_pool_waits_in_the_shared_queue() {
    kit_with(ON, async |node| {
        let spec = WorkerSpec::new("pool").placement(Placement::Dedicated);
        let pool = node.root().pool_with(spec, 1, Routing::SharedQueue, |_| Ok(Counter::default())).unwrap();
        pool.until_ready().await;
        node.inject("pool/0", Fault::Block(seconds(3)));
        let answers = [pool.send(Add(1)), pool.send(Add(1))];
        for answer in answers {
            answer.await.unwrap();
        }
        assert_eq!(figures(&metrics(&node).await), [(2.0, 3.0), (2.0, 3.0)]);
    });
}

#[test]
fn without_the_setting_there_is_no_histogram_of_messages() {
    kit(async |node| {
        node.supervise("counter", Counter::default).unwrap().send(Add(1)).await.unwrap();
        let text = metrics(&node).await;
        assert!(text.contains("heartbeat_messages_total{") && !text.contains("handling_seconds"), "{text}");
    });
}
