use super::*;
use crate::fault::APART;

fn old() -> Kinds {
    Kinds::read("old", Hoster::Robot).expect("a word of its own")
}

#[test]
fn a_seed_is_a_schedule_and_another_plugin_meets_the_same() {
    for kinds in [old(), Kinds::all()] {
        for seed in 0..100 {
            let plan = Plan::draw(seed, false, &kinds);
            assert_eq!(plan, Plan::draw(seed, false, &kinds));
            assert_eq!(plan.faults, Plan::draw(seed, true, &kinds).faults);
            assert_ne!(plan.faults, Plan::draw(seed + 1, false, &kinds).faults);
        }
    }
    let foreign = (0..100).map(|seed| Plan::draw(seed, true, &Kinds::all()));
    assert!(
        foreign.into_iter().all(|plan| !plan.keys().contains("verify") && !plan.keys().contains("deadline"))
    );
}

#[test]
fn the_old_seeds_are_what_they_were() {
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    for seed in 1..=500 {
        let plan = Plan { debian: false, ..Plan::draw(seed, false, &old()) };
        let mut text = format!("{plan} {:?} {:?}", plan.switch, plan.length);
        for Planned { from, until, fault } in &plan.faults {
            text += &format!(" {from:?} {until:?} {fault}");
        }
        for byte in text.bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(digest, 7_854_992_369_400_727_659);
}

#[test]
fn what_is_added_to_a_schedule_leaves_the_rest_as_it_is() {
    for seed in 0..500 {
        let (before, after) = (Plan::draw(seed, false, &old()), Plan::draw(seed, false, &Kinds::all()));
        let new = |planned: &&Planned| !before.faults.contains(planned);
        let added = after.faults.iter().filter(new).count();
        assert_eq!(before.faults.len() + added, after.faults.len());
        let Plan { length, faults, site, .. } = after.clone();
        assert_eq!(after, Plan { length, faults, site, ..before });
        // Only root can play it, so that a seed would mean something else to others.
        let mut without = Plan::draw(seed, false, &Kinds::all().without(Kind::Uid));
        without.site.uid = after.site.uid;
        assert_eq!(after, without);
    }
}

#[test]
fn earlier_seeds_are_what_they_were() {
    let [earlier, all] =
        ["earlier", "all"].map(|kinds| Kinds::read(kinds, Hoster::Robot).expect("a word of its own"));
    for seed in 0..500 {
        let (before, after) = (Plan::draw(seed, false, &earlier), Plan::draw(seed, false, &all));
        assert!(before.faults.iter().all(|planned| after.faults.contains(planned)), "seed {seed}");
        // What is new stands behind.
        assert!(after.site.to_string().starts_with(&before.site.to_string()), "seed {seed}");
    }
}

#[test]
fn the_last_reloads_come_when_nothing_else_has_been_wrong_for_a_while() {
    let reloads = Kinds::read("reloads", Hoster::Robot).expect("a kind");
    for seed in 0..500 {
        let plan = Plan::draw(seed, false, &reloads);
        let last = plan.faults.last().expect("there are some");
        assert!(last.fault.reloads().is_some(), "{plan}");
        let before = plan.faults.iter().filter(|planned| planned.from < last.from);
        assert!(
            before.into_iter().all(|planned| planned.until + Duration::from_secs(25) <= last.from),
            "{plan}"
        );
    }
}

#[test]
fn every_fault_is_drawn_and_over_in_time_and_what_nobody_can_mend_is_not_drawn() {
    let all = Kinds::all();
    let plans: Vec<Plan> = (0..2000).map(|seed| Plan::draw(seed, false, &all)).collect();
    for plan in &plans {
        assert!((3..=28).contains(&plan.faults.len()));
        assert!(
            plan.faults.iter().all(|planned| planned.from <= planned.until && planned.until <= plan.length)
        );
        assert!(
            plan.deadline.is_none_or(|deadline| u64::from(deadline) > plan.switch.as_secs() + 1),
            "{plan}"
        );
        if plan.wrong_login.is_some() {
            assert!(plan.death.is_some() && (plan.nodes > 2 || !plan.quorum), "{plan}");
        }
        let one = !plan.site.second && plan.site.ips == Ips::One;
        assert!(!plan.is_moved() || plan.verify.is_some() && one, "{plan}");
        let hangs = plan.to_string().contains("command hangs");
        assert!(!hangs || plan.keys().contains("timeout"), "{plan}");
        for (number, one) in plan.faults.iter().enumerate() {
            for other in &plan.faults[number + 1..] {
                let same = one.fault.node().is_some() && one.fault.node() == other.fault.node();
                assert!(!same || one.until + APART <= other.from, "{plan}");
            }
        }
    }
    let texts: String = plans.iter().map(ToString::to_string).collect();
    let others = [
        "kill 1",
        "freeze 5",
        "reload 2",
        "cut off 1",
        "cut from 2",
        "cut to 3",
        "cut 1→2",
        "loss ",
        "switch ",
        "pause 1",
        "log of 2 blocked",
        "stop 1",
        "hook fails on [1]",
        "hook fails on [1, 2, 3]",
        "API away",
        "strays 7",
        ", uid",
        ", cmd before",
        ", log behind",
        ", release at death",
        ", release at unlord",
        ", freq [3, 1]",
        ", second Legion",
        ", clocks ahead [0, 10]",
        ", two hooks",
        ", two IPs in a hook",
        "deploy 1, loads 12 s",
        "sick [1]",
        "sick [1, 2, 3]",
        "drain 1",
        ", checked by http",
        ", checked by a command",
        ", drain file",
        ", nopreempt",
        ", preempt-delay 7",
        ", silent stop",
        "command hangs on [1]",
        "command dies on [1, 2, 3]",
        "command shouts on ",
        "command of 1 missing",
    ];
    for fault in others.iter().chain(&["move to 2", "move away", "wrong login on 3"]).chain(&LIES) {
        assert!(texts.contains(fault), "{fault} is never drawn");
    }
}
