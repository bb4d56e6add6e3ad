//! The curve that a user chooses a point of: the longest pause that is never called a death,
//! against the time until all know of a silent loss.

use std::path::Path;
use std::time::Duration;

use heartbeat_sim::Fault;
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoFont, LineSeries, PathElement, RGBColor, SVGBackend, WHITE,
};

use crate::foca_nodes::foca;
use crate::ours::ours;
use crate::played::Make;
use crate::{SECOND, WARM, config, figures};

const NODES: usize = 50;
/// Losses for each point.
const LOSSES: u64 = 20;
/// Pauses that have to be spared for each length: in so many worlds, by so many nodes, one after
/// the other.
const WORLDS: u64 = 4;
const PAUSES: usize = 5;
/// Longest pause that is tried.
const LONGEST: f64 = 40.0;

struct Point {
    whose: &'static str,
    /// Seconds.
    spared: f64,
    silent: Vec<f64>,
    killed: Vec<f64>,
}

/// Measures both, prints a line for each setting, and draws them.
pub(crate) fn curve(plot: Option<&str>) {
    println!(
        "{:34}  {:>16}  {:>13}  {:>13}  {:>13}  {:>8}",
        "N = 50; median, greatest of 20",
        "longest spared s",
        "suspect all s",
        "silent all s",
        "killed all s",
        "B/s/node"
    );
    let mut points = Vec::new();
    for seconds in [2, 3, 4, 6, 8, 10, 15] {
        let make = |seed, nodes| ours(seed, nodes, config(&format!("timeout = '{seconds}s'")));
        points.push(point("ours", &format!("ours: timeout {seconds} s"), &make));
    }
    points.push(point("foca", "foca: new_lan", &|seed, nodes| foca(seed, nodes, None)));
    for seconds in [2, 4, 10, 15] {
        let make = |seed, nodes| foca(seed, nodes, Some(SECOND * seconds));
        points.push(point("foca", &format!("foca: new_lan, suspect for {seconds} s"), &make));
    }
    if let Some(path) = plot {
        draw(Path::new(path), points);
    }
}

fn point(whose: &'static str, name: &str, make: Make<'_>) -> Point {
    let (mut silent, mut suspect, mut killed, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for seed in 0..LOSSES {
        for is_silent in [true, false] {
            let mut cluster = make(seed, NODES);
            bytes = cluster.warm_up(WARM);
            let (victim, since) = (seed as usize * 7 % NODES, cluster.played.elapsed());
            cluster.played.apply(if is_silent { Fault::Unplug(victim) } else { Fault::Kill(victim) });
            cluster.played.look_for(&[victim]);
            cluster.played.run(SECOND * 60);
            let spread = cluster.spread(&[victim], since);
            // Nodes that were not notified within a minute were notified after it.
            let all = spread.dead_all.first().copied().unwrap_or(60.0);
            if is_silent {
                silent.push(all);
                suspect.extend(spread.suspect_all);
            } else {
                killed.push(all);
            }
        }
    }
    let (mut spared, mut not_spared) = (0.0, LONGEST);
    while not_spared - spared > 0.1 {
        let length = f64::midpoint(spared, not_spared);
        if is_spared(make, Duration::from_secs_f64(length)) { spared = length } else { not_spared = length }
    }
    println!(
        "{name:34}  {spared:16.1}  {:>13}  {:>13}  {:>13}  {bytes:>8.0}",
        figures(&suspect),
        figures(&silent),
        figures(&killed)
    );
    Point { whose, spared, silent, killed }
}

/// Whether no node declares a node dead that pauses for this long.
fn is_spared(make: Make<'_>, pause: Duration) -> bool {
    (0..WORLDS).all(|seed| {
        let mut cluster = make(seed, NODES);
        cluster.played.run(WARM);
        (0..PAUSES).all(|place| {
            cluster.played.apply(Fault::Pause(place));
            cluster.played.run(pause);
            cluster.played.apply(Fault::Resume(place));
            cluster.played.run(SECOND * 15 + Duration::from_millis(190));
            cluster.false_deaths(&[]).2 == 0
        })
    })
}

fn draw(path: &Path, mut points: Vec<Point>) {
    points.sort_by(|one, other| one.spared.total_cmp(&other.spared));
    let root = SVGBackend::new(path, (760, 460)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let most = points.iter().flat_map(|point| point.silent.iter().copied()).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "50 nodes: what is spared, and how soon a loss is known (line: median; dots: each of 20)",
            ("sans-serif", 16).into_font(),
        )
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..points.last().map_or(1.0, |point| point.spared) * 1.05, 0.0..most * 1.05)
        .unwrap();
    chart
        .configure_mesh()
        .x_desc("longest pause that no member takes for a death, in seconds")
        .y_desc("until all know of the loss, in seconds")
        .light_line_style(WHITE)
        .draw()
        .unwrap();
    let series = [
        ("ours", "ours, silent", true, RGBColor(213, 94, 0)),
        ("ours", "ours, process killed", false, RGBColor(0, 158, 115)),
        ("foca", "foca, either", true, RGBColor(0, 114, 178)),
    ];
    for (whose, name, is_silent, color) in series {
        let times = |point: &Point| if is_silent { point.silent.clone() } else { point.killed.clone() };
        let points = || points.iter().filter(|point| point.whose == whose);
        let median = |point: &Point| {
            let mut times = times(point);
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        chart
            .draw_series(LineSeries::new(points().map(|point| (point.spared, median(point))), color.stroke_width(2)))
            .unwrap()
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
        let dots = points().flat_map(|point| times(point).into_iter().map(|time| (point.spared, time)));
        chart.draw_series(dots.map(|at| Circle::new(at, 2, color.mix(0.5).filled()))).unwrap();
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(180, 180, 180))
        .draw()
        .unwrap();
    root.present().unwrap();
}
