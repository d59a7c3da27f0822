//! The floor, `N` times each: a reload of the Lord, without options, whose app loads at once, for 8 and for 30 s, in a Legion of
//! two nodes without quorum, of three and of five with one.
//!
//! `N=50 JOBS=40 cargo test … -- --ignored --nocapture reload::floor`; `LOAD=0` plays one of the three.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lab::reload::Way;
use lab::scene::seconds;
use lab::uwsgi::Uwsgi;

use super::{ROUNDS, Watch, quorum, stage};

/// How many reloads one Legion plays, one after the other.
const IN_A_ROW: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Case {
    uwsgi: Uwsgi,
    nodes: usize,
    load: u64,
}

#[ignore = "takes many minutes"]
#[test]
fn fifty_of_fifty() {
    let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (times, jobs) = (number("N", 50), number("JOBS", 40));
    let mut cases = Vec::new();
    // The longest first, so that nobody waits for one at the end.
    let loads = env::var("LOAD").map_or(vec![30, 8, 0], |load| vec![load.parse().expect("a number")]);
    for load in loads {
        for (uwsgi, nodes) in Uwsgi::ALL.into_iter().flat_map(|uwsgi| [2, 3, 5].map(|nodes| (uwsgi, nodes))) {
            cases.push(Case { uwsgi, nodes, load });
        }
    }
    let row = |case: Case, from: usize| (case, IN_A_ROW.min(times - from));
    let rows = cases.iter().flat_map(|case| (0..times).step_by(IN_A_ROW).map(|from| row(*case, from)));
    let rows: Vec<(Case, usize)> = rows.collect();
    let (next, well) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((case, count)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = AtomicUsize::new(0);
                    // What has failed is printed, and the others go on.
                    let _ = catch_unwind(AssertUnwindSafe(|| play(*case, *count, &done)));
                    well.lock().expect("nobody panics with it").push((*case, done.into_inner()));
                }
            });
        }
    });
    let well = well.into_inner().expect("as above");
    for case in &cases {
        let done: usize = well.iter().filter(|(of, _)| of == case).map(|(_, done)| done).sum();
        println!("{}, {} nodes, {} s: {done} of {times}", case.uwsgi, case.nodes, case.load);
    }
    assert_eq!(well.iter().map(|(_, done)| done).sum::<usize>(), times * cases.len());
}

fn play(Case { uwsgi, nodes, load }: Case, count: usize, done: &AtomicUsize) {
    let scene = stage(uwsgi, nodes, &if nodes == 2 { ROUNDS.into() } else { quorum(nodes) });
    scene.legion.set_app(1, &format!("sleep {load}"));
    for _ in 0..count {
        let watch = Watch::on(&scene, 1);
        scene.legion.ask_for_reload(1, Way::Hup);
        watch.is_lord_again();
        // At another time within a round.
        thread::sleep(seconds(1) + seconds(1).mul_f64(fastrand::f64()));
        watch.nobody_has_noticed();
        done.fetch_add(1, Ordering::Relaxed);
    }
}
