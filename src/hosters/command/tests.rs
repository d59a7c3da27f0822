use std::fs;
use std::path::Path;

use super::*;
use crate::config::Weight;
use crate::hosters::{Kind, Place, Stage};

const LONG: Duration = Duration::from_secs(60);

fn shared() -> &'static Shared {
    Box::leak(Box::new(Shared::new()))
}

fn read_hook(argument: &str) -> Read {
    read(argument.as_bytes(), &Surroundings { name: "one", legion: None, shared: shared() })
}

/// A command in `folder` with this text.
fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("move-ip");
    // By a shell: a file that is open for writing in a child of another test could not be run.
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", "printf %s \"$1\" > \"$0\"; chmod 755 \"$0\""]).arg(&path).arg(text);
    assert!(shell.status().unwrap().success());
    path.to_str().unwrap().into()
}

/// What becomes of a request that a command with this text answers.
fn answer(text: &str, request: Request) -> Result<Place, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let command = script(folder.path(), &format!("#!/bin/sh\n{text}\n"));
    let hook = read_hook(&format!("command={command},ip=4.4.4.4,target=web1,timeout=5"));
    let session = hook.ips[0].open(Box::leak(Box::default()))?;
    match request {
        Request::Look => session.whereabouts(Need::Takeover, LONG),
        Request::Switch => session.bring_here(Need::Election, LONG, &|| (), &|| true).map(Place::Here),
        Request::Release => session.release(LONG),
    }
}

fn said(text: &str, request: Request) -> String {
    match answer(text, request) {
        Ok(place) => format!("{place}"),
        Err(Failure { kind, sentence, .. }) => format!("{kind:?}: {sentence}"),
    }
}

#[test]
fn an_exit_status_means_what_it_means_to_a_resource_agent() {
    for (text, expected) in [
        ("exit 0", "routed to exit status 0"),
        ("echo moved; exit 0", "routed to exit status 0: moved"),
        ("exit 1", "Unknown: start: exit status 1 (failed)"),
        ("echo no >&2; exit 2", "Final: start: exit status 2 (wrong arguments): no"),
        ("exit 3", "Final: start: exit status 3 (not implemented)"),
        ("exit 4", "Final: start: exit status 4 (not permitted)"),
        ("exit 5", "Final: start: exit status 5 (something is not installed)"),
        ("exit 6", "Final: start: exit status 6 (not configured)"),
        ("exit 7", "Unknown: start: exit status 7 (not here)"),
        ("exit 69", "NotSent: start: exit status 69 (nobody could be asked)"),
        ("exit 75", "Locked: start: exit status 75 (busy)"),
        ("exit 127", "Unknown: start: exit status 127 (a program that it calls is missing)"),
        ("exit 200", "Unknown: start: exit status 200"),
        ("kill -9 $$", "Unknown: start was killed by signal 9"),
    ] {
        assert_eq!(said(text, Request::Switch), expected, "{text}");
    }
    for (text, expected) in [
        ("exit 0", "routed to web1"),
        ("exit 7", "not here"),
        ("exit 1", "Unknown: monitor: exit status 1 (failed)"),
        ("exit 69", "NotSent: monitor: exit status 69 (nobody could be asked)"),
        ("exit 75", "Locked: monitor: exit status 75 (busy)"),
        ("exit 6", "Final: monitor: exit status 6 (not configured)"),
    ] {
        assert_eq!(said(text, Request::Look), expected, "{text}");
    }
    for (text, expected) in [
        ("[ $1 = stop ] || exit 7", "not here"),
        ("exit 0", "NotDone: stop: exit status 0, but monitor finds it still here"),
        ("exit 75", "Locked: stop: exit status 75 (busy)"),
    ] {
        assert_eq!(said(text, Request::Release), expected, "{text}");
    }
}

#[test]
fn what_does_not_run_has_done_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(folder.path(), "#!/bin/sh\nexit 0\n");
    let hook = read_hook(&format!("command={command},ip=vip"));
    fs::remove_file(&command).unwrap();
    let session = hook.ips[0].open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
    let failure = session.bring_here(Need::Election, LONG, &|| (), &|| true).unwrap_err();
    assert_eq!((failure.kind, failure.stage), (Kind::NotSent, Stage::Way));
    assert!(failure.sentence.ends_with("move-ip cannot be run: No such file or directory (os error 2)"));
    for (text, hint) in [
        (
            "#!/nonexistent/sh\nexit 0\n",
            "(os error 2): check its first line, #! with an interpreter that is there",
        ),
        (
            "#!/bin/sh\r\nexit 0\r\n",
            "(os error 2): check its first line, #! with an interpreter that is there",
        ),
        ("exit 0\n", "(os error 8): check its first line, #! with an interpreter"),
    ] {
        script(folder.path(), text);
        let failure = session.bring_here(Need::Election, LONG, &|| (), &|| true).unwrap_err();
        assert!(failure.sentence.contains(hint), "{text}: {}", failure.sentence);
    }
}

#[test]
fn a_command_knows_what_it_is_called_for() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(
        folder.path(),
        "#!/bin/sh\necho \"$#|$1|$2|$3|$4|$FAILOVER_ACTION|$FAILOVER_IP|$FAILOVER_TARGET|$FAILOVER_LEGION|$OCF_RESKEY_ip|$KEY\"\n",
    );
    let file = folder.path().join("environment");
    fs::write(&file, "KEY='a key'\nFAILOVER_IP=no\n").unwrap();
    let hook = read_hook(&format!("command={command},ip=vip one,env_file={}", file.display()));
    let session = hook.ips[0].open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
    let said = session.bring_here(Need::Election, LONG, &|| (), &|| true).unwrap();
    assert_eq!(said, "exit status 0: 4|start|vip one||one|start|vip one||one|vip one|***");
    assert_eq!((session.target(), hook.ips[0].ip()), ("this server", "vip one"));
    assert_eq!(session.describe(), format!("{command} start, at most 60 s"));
}

#[test]
fn an_env_file_that_is_broken_later_leaves_what_was_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(folder.path(), "#!/bin/sh\necho \"of ${#KEY} letters\"\n");
    let file = folder.path().join("environment");
    fs::write(&file, "KEY=hunter\n").unwrap();
    let hook = read_hook(&format!("command={command},ip=vip,env_file={}", file.display()));
    for (content, said, is_kept) in [
        ("KEY=hunter2\n", "exit status 0: of 7 letters", false),
        ("KEY=hunter22\nexport MORE=1\n", "exit status 0: of 7 letters", true),
        ("KEY=hunter22\n", "exit status 0: of 8 letters", false),
    ] {
        fs::write(&file, content).unwrap();
        let session =
            hook.ips[0].open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
        let done = session.bring_here(Need::Election, LONG, &|| (), &|| true).unwrap();
        assert_eq!(done, said, "{content}");
        assert_eq!(hook.ips[0].secret().unwrap().is_kept(), is_kept, "{content}");
    }
}

#[test]
fn an_agent_gets_all_by_its_environment() {
    let hook = "agent=ocf:heartbeat:Dummy,ip=4.4.4.4,target=t,ocf_state=/tmp/state,ocf_cidr_netmask=32";
    let options = options::parse(hook.as_bytes()).options.remove(0);
    assert_eq!(options.program.path, Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy"));
    assert_eq!(
        options.program.words("start", ["4.4.4.4", "t", "one"]),
        [c"/usr/lib/ocf/resource.d/heartbeat/Dummy", c"start"].map(|word| word.to_owned())
    );
    let address = Address {
        path: options.program.path.display().to_string(),
        options,
        common: read_hook(hook).common,
        legion: "one".into(),
        shared: shared(),
    };
    let calling =
        Calling { of: &address, variables: Variables::default(), metrics: Box::leak(Box::default()) };
    let about = calling.about("monitor");
    for (name, value) in [
        ("OCF_RESKEY_ip", "4.4.4.4"),
        ("OCF_RESKEY_state", "/tmp/state"),
        ("OCF_RESKEY_cidr_netmask", "32"),
        ("OCF_ROOT", "/usr/lib/ocf"),
        ("OCF_RESOURCE_INSTANCE", "one_4.4.4.4"),
        ("OCF_RESOURCE_TYPE", "Dummy"),
        ("OCF_RESOURCE_PROVIDER", "heartbeat"),
    ] {
        assert!(about.contains(&(name.into(), value.into())), "{name}");
    }
}

#[test]
fn what_it_writes_is_cut_to_one_line_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let command = script(
        folder.path(),
        "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x\nprintf '\\n\\n  the key is %s\\033[31m\\r\\n  end\\n' $KEY >&2; exit 1\n",
    );
    let file = folder.path().join("environment");
    fs::write(&file, "KEY=hunter2\nSHORT=hun\n").unwrap();
    let hook = read_hook(&format!("command={command},ip=vip,env_file={}", file.display()));
    let session = hook.ips[0].open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
    let sentence = session.bring_here(Need::Election, LONG, &|| (), &|| true).unwrap_err().sentence;
    let said = sentence.strip_prefix("start: exit status 1 (failed): ").unwrap();
    assert!(said.starts_with("xxx") && said.ends_with("x / the key is ***?[31m / end"), "{said}");
    assert_eq!(said.chars().count(), 200);
}

/// What is kept of the output begins anywhere: here in the middle of a secret, and so little is left without all secrets
/// that it is shown.
#[test]
fn the_rest_of_a_secret_is_not_shown_either() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    fs::write(&file, "KEY=a long secret, hunter2\nOTHER=schlüsselwörter\n").unwrap();
    for (name, shift) in
        [("KEY", 0), ("KEY", 1), ("KEY", 10), ("KEY", 23), ("OTHER", 3), ("OTHER", 4), ("OTHER", 5)]
    {
        let text = format!(
            "#!/bin/sh\ni=0; while [ $((i = i + 1)) -lt 200 ]; do printf %s \"${name}\"; done; printf %{shift}s; exit 1\n"
        );
        let command = script(folder.path(), &text);
        let hook = read_hook(&format!("command={command},ip=vip,env_file={}", file.display()));
        let session =
            hook.ips[0].open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
        let sentence = session.bring_here(Need::Election, LONG, &|| (), &|| true).unwrap_err().sentence;
        let said = sentence.strip_prefix("start: exit status 1 (failed): ").unwrap();
        assert_eq!(said.replace('*', ""), "", "{name} {shift}: {said}");
    }
}

#[test]
fn what_is_wrong_with_an_argument_is_said_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    fs::write(&file, "A=1\nhunter2\n").unwrap();
    let (file, here) = (file.display(), folder.path().display());
    for (argument, expected) in [
        ("ip=vip", "command is missing: set command to the absolute path of a program"),
        ("command=,ip=vip", "command is empty"),
        ("command=move-ip,ip=vip", "command=move-ip is not valid: expected the absolute path"),
        ("command=/bin/true,agent=ocf:heartbeat:Dummy,ip=vip", "command and agent are both given: keep one"),
        ("agent=,ip=vip", "agent is empty"),
        ("agent=Dummy,ip=vip", "agent=Dummy is not valid: expected ocf:PROVIDER:NAME"),
        ("agent=ocf:Dummy,ip=vip", "agent=ocf:Dummy is not valid"),
        ("agent=ocf:heartbeat:../x,ip=vip", "is not valid"),
        (
            "command=/bin/true,ocf_state=1,ip=vip",
            "ocf_state is for an agent: put it into env_file for a command",
        ),
        ("agent=ocf:heartbeat:Dummy,ocf_a-b=1,ip=vip", "ocf_a-b cannot be a parameter"),
        ("command=/bin/true", "ip is missing: set ip to what the command moves"),
        ("command=/bin/true,ip=a;;b", "ip=a;;b has an empty item"),
        ("command=/bin/true,ip=a;b;a", "ip=a;b;a contains a twice"),
        ("command=/bin/true,ip=-a", "ip=-a is not valid: the command would take it for an option"),
        ("command=/bin/true,ip=a\x07b", "ip=a?b is not valid: expected at most 200 printable characters"),
        ("command=/bin/true,ip=a,target=--all", "target=--all is not valid"),
        ("command=/bin/true,ip=a,timeout=5,deadline=x", "deadline=x is not valid"),
    ] {
        let read = read_hook(argument);
        let wrong: Vec<String> = read.remarks.iter().map(ToString::to_string).collect();
        assert!(wrong.iter().any(|remark| remark.contains(expected)), "{argument}: {wrong:?}");
        assert!(read.remarks.iter().any(|remark| remark.weight() == Weight::Wrong) && read.ips.is_empty());
    }
    // What may be there later.
    for (argument, expected) in [
        (format!("command={here}/none,ip=a"), "none cannot be run (No such file or directory"),
        (format!("command={here},ip=a"), "cannot be run (it is no file): expected a program"),
        (format!("command={file},ip=a"), "it is not executable: chmod 755"),
        ("agent=ocf:none:none,ip=a".into(), "agent=/usr/lib/ocf/resource.d/none/none cannot be run"),
        (format!("command=/bin/true,ip=a,env_file={file}"), "environment: line 2 is not NAME=value"),
        (format!("command=/bin/true,ip=a,env_file={here}/none"), "expected a file with lines NAME=value"),
    ] {
        let read = read_hook(&argument);
        let remark = read.remarks.iter().find(|remark| remark.weight() == Weight::Away).expect(&argument);
        assert!(remark.to_string().contains(expected), "{argument}: {remark}");
        assert!(!remark.to_string().contains("hunter2"), "{remark}");
        assert_eq!(read.ips.len(), 1, "{argument}");
    }
}

#[test]
fn several_ips_are_calls_of_their_own() {
    let read = read_hook("command=/bin/true,ip=www.example.com; 2001:db8::1 ;eip-1,target=t");
    let ips: Vec<&str> = read.ips.iter().map(|ip| ip.ip()).collect();
    assert_eq!(ips, ["www.example.com", "2001:db8::1", "eip-1"]);
    assert!(read.remarks.is_empty());
    assert_ne!(read.ips[0].identity(), read.ips[1].identity());
    assert_eq!(read.ips[0].check_pause(), Duration::from_secs(60));
}

/// A command in `folder` that notes how it is called, does this at its start, and is never here.
fn noting(folder: &Path, start: &str) -> (String, impl Fn() -> Vec<String>) {
    let file = folder.join("calls");
    let text = format!(
        "#!/bin/sh\necho $1 >>{}\ncase $1 in start) {start};; monitor) exit 7; esac\n",
        file.display()
    );
    let calls = move || fs::read_to_string(&file).unwrap_or_default().lines().map(String::from).collect();
    (format!("command={},ip=vip", script(folder, &text)), calls)
}

fn start(hook: &Read, goes_on: &dyn Fn() -> bool) -> Result<String, Failure> {
    let session = hook.ips[0].open(Box::leak(Box::default()))?;
    session.bring_here(Need::Election, LONG, &|| (), goes_on)
}

#[test]
fn a_start_is_killed_when_this_node_is_not_to_have_the_ip_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (argument, calls) = noting(folder.path(), "exec sleep 1000");
    let failure = start(&read_hook(&argument), &|| calls().is_empty()).unwrap_err();
    assert_eq!(
        (failure.kind, &*failure.sentence),
        (
            Kind::Unknown,
            "start was killed, because uWSGI ends or reloads, or this node is not to have the IP any more"
        )
    );
}

#[test]
fn a_release_ends_the_start_that_is_under_way() {
    for ends_it_first in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (argument, calls) = noting(folder.path(), "exec sleep 1000");
        let shared = shared();
        // Hooks of their own, as of legion-lord and legion-unlord.
        let hook = || read(argument.as_bytes(), &Surroundings { name: "one", legion: None, shared });
        std::thread::scope(|scope| {
            let started = scope.spawn(|| start(&hook(), &|| true).unwrap_err().sentence);
            while calls().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let hook = hook();
            let session =
                hook.ips[0].open(Box::leak(Box::default())).unwrap_or_else(|failure| panic!("{failure:?}"));
            let release = || session.release(LONG).unwrap_or_else(|failure| panic!("{failure:?}"));
            let ended = if ends_it_first {
                session.end_switch(LONG);
                // Before the release, which would end it too.
                let ended = started.join().unwrap();
                release();
                ended
            } else {
                assert_eq!(release(), Place::NotHere);
                started.join().unwrap()
            };
            assert_eq!(
                ended,
                "start was killed, because uWSGI ends or reloads, or this node is not to have the IP any more"
            );
        });
        assert_eq!(calls(), ["start", "stop", "monitor"]);
    }
}

#[test]
fn two_starts_of_one_ip_come_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (argument, _) = noting(folder.path(), "mkdir $0.lock || exit 6; sleep 0.3; rmdir $0.lock; exit 0");
    let shared = shared();
    let hook = || read(argument.as_bytes(), &Surroundings { name: "one", legion: None, shared });
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| start(&hook(), &|| true)));
        for started in both {
            assert_eq!(started.join().unwrap().as_deref(), Ok("exit status 0"));
        }
    });
}
