//! A takeover's own cost in the Cloud: the POST, and on the same connection the GET that confirms it. The first takeover of a
//! process looks once more, to make sure which IP it is. The stand-in's actions are over at once, so that nothing is waited
//! for.

use std::time::Duration;

use lab::cloud::{Certificate, Cloud, Config, Token};
use lab::hoster::{Hosted as _, floating_ips};
use lab::legion::{APART, LEGION, failover_ip};
use lab::{TOKEN, wait_until};

use crate::proc::{cpu, cpu_of_children};
use crate::sides::{Lone, UWSGI};
use crate::trust::Trust;

/// Each takes a look, and an IP has 300 an hour.
const TAKEOVERS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

pub struct Stage {
    cloud: Cloud,
    trust: Trust,
}

/// What one round has taken, in milliseconds.
pub struct Taken {
    /// From POST to POST.
    pub wall: Vec<f64>,
    /// For one takeover.
    pub cpu: f64,
}

impl Stage {
    pub fn new() -> Result<Stage, String> {
        let cloud = Cloud::start(Config {
            tls: Some(Certificate::Right),
            tokens: vec![Token::new("token", TOKEN)],
            floating_ips: floating_ips([failover_ip()], None),
            limit: u32::MAX,
            // By the time of the next failover no session would be known any more.
            resume_sessions: false,
            may_unassign: false,
            ..Config::default()
        });
        let cloud = cloud.map_err(|error| error.to_string())?;
        let trust = Trust::in_ca(cloud.ca_file().expect("with TLS"));
        Ok(Stage { cloud, trust })
    }

    pub fn run(&self) -> Result<Taken, String> {
        // Always away from here, whatever the one before has done.
        self.cloud.clear_faults();
        self.cloud.rule("get times=1 delay 300ms");
        let before = self.cloud.journal().len();
        let hook = self.cloud.hook(1, failover_ip(), ",floating_ip=4711");
        let line = format!("legion-lord = {LEGION} {}:{hook}\n{APART}", Cloud::ACTION);
        let plugin = UWSGI.plugins().join("hetzner_plugin.so");
        let lone = Lone::start(Some(&plugin), &line.repeat(TAKEOVERS), &self.trust.env());
        // The first request is held, until the process is seen to wait: what it has used before is its start.
        if !self.cloud.wait_for(LIMIT, |journal| journal.len() > before) {
            return Err(format!("no request came:\n{}", lone.last_lines()));
        }
        let used = || cpu(lone.node.id()) + cpu_of_children(lone.node.id());
        let begun = used();
        if !wait_until(LIMIT, || lone.node.log().contains("i am now the Lord")) {
            return Err(format!("no Lord:\n{}", lone.last_lines()));
        }
        let used = used() - begun;
        let journal = self.cloud.journal();
        let own = &journal[before..];
        let posts: Vec<_> = own.iter().filter(|request| request.method == "POST").collect();
        // The first one moves the IP, and the others find that it is here.
        let right = posts.iter().all(|post| matches!(post.status, Some(201 | 422)));
        if !right || posts.len() != TAKEOVERS || own.len() != 2 * TAKEOVERS + 1 {
            let (posts, all) = (posts.len(), own.len());
            return Err(format!(
                "{posts} POST of {all} requests are not {TAKEOVERS} takeovers:\n{}",
                lone.last_lines()
            ));
        }
        let gaps = posts.windows(2).map(|two| milliseconds(two[1].at - two[0].at));
        Ok(Taken { wall: gaps.collect(), cpu: milliseconds(used) / TAKEOVERS as f64 })
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
