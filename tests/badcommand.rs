//! Commands that are as bad as they may be: each has its verdict in time, leaves nothing behind, and holds up nobody. What a
//! call is given, what is told of a wrong hook at start, and that no secret of the env_file shows.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use lab::legion::{LEGION, Legion};
use lab::node::{Node, free_address};
use lab::process::{self, SIGINT, SIGKILL, is_root, write_program};
use lab::remains::Remains;
use lab::scene::{QUICK, on_each_uwsgi};
use lab::uwsgi::Uwsgi;
use lab::{LIMIT, wait_until};

use crate::startup::{NO_WARNING, start};

const SECOND: &str = "second";
/// Nobody is lost who was only slow.
const TOLERANT: &str = "legion-freq = 1\nlegion-tolerance = 10\n";

on_each_uwsgi! {
    every_bad_command_has_its_verdict_and_leaves_nothing_behind
    a_look_that_hangs_holds_up_nobody_and_ends_with_its_node
    a_busy_master_takes_no_exit_status_away
    what_a_call_has_left_is_no_zombie_until_the_next
    a_child_of_uwsgi_that_fails_ends_no_call
    a_call_is_given_what_it_needs_and_nothing_else
    no_value_of_the_env_file_shows
}

/// A command that is bad, and what becomes of its takeover.
struct Bad {
    /// Its name, and the IP of its hook.
    name: &'static str,
    /// Lines of a shell script, in which `$1` is the action.
    script: &'static str,
    keys: &'static str,
    /// Whether the IP is here in the end.
    is_here: bool,
    /// What the log says of it.
    said: &'static str,
}

/// Its child or daemon is there before it ends.
const WAIT: &str = "while [ ! -s daemon-$IP ]; do sleep 0.05; done";

const BAD: &[Bad] = &[
    Bad {
        name: "hangs",
        script: "trap '' TERM INT HUP; while [ $1 = start ]; do sleep 1000; done; exit 7",
        keys: ",timeout=2,deadline=24",
        is_here: false,
        said: "start was killed after 2 s",
    },
    Bad {
        name: "stops",
        script: "[ $1 = monitor ] && exit 7; kill -STOP $$; exit 0",
        keys: ",timeout=2,deadline=8",
        is_here: false,
        said: "start was killed after 2 s",
    },
    // Its own child has the pipe, too, and the rest of its time.
    Bad {
        name: "child",
        script: "[ $1 = start ] && sleep 1000 & exit 0",
        keys: ",timeout=10",
        is_here: true,
        said: "exit status 0",
    },
    // A daemon is none of ours, but its output is no reason to wait.
    Bad {
        name: "daemon",
        script: "[ $1 = start ] || exit 0; setsid sh -c 'echo $$ >daemon-daemon; exec sleep 1000' & WAIT",
        keys: ",timeout=600",
        is_here: true,
        said: "exit status 0",
    },
    // Nor is one that goes on writing; the end of the pipe is its own, too.
    Bad {
        name: "loud",
        script: "[ $1 = start ] || exit 0; setsid sh -c 'echo $$ >daemon-loud; exec yes' & WAIT",
        keys: ",timeout=600",
        is_here: true,
        said: "exit status 0",
    },
    Bad {
        name: "gigabyte",
        script: "[ $1 = start ] || exit 0; yes | head -c 1000000000; echo; echo the end >&2",
        keys: ",timeout=600",
        is_here: true,
        said: "the end",
    },
    Bad {
        name: "dies",
        script: "[ $1 = start ] && kill -SEGV $$; exit 0",
        keys: "",
        is_here: true,
        said: "start was killed by signal 11",
    },
    Bad {
        name: "missing",
        script: "exit 0",
        keys: ",deadline=8",
        is_here: false,
        said: "No such file or directory",
    },
    Bad { name: "locked", script: "exit 0", keys: ",deadline=8", is_here: false, said: "Permission denied" },
    Bad { name: "text", script: "exit 0", keys: ",deadline=8", is_here: false, said: "Exec format error" },
    // From one version to the next while it runs: what is asked afterwards is the new one.
    Bad {
        name: "replaced",
        script: "printf '#!/bin/sh\\nexit 0\\n' >$0.new; chmod 755 $0.new; mv $0.new $0; exit 1",
        keys: "",
        is_here: true,
        said: "exit status 1",
    },
    Bad {
        name: "unknown",
        script: "[ $1 = monitor ] && exit 0; exit 99",
        keys: "",
        is_here: true,
        said: "99",
    },
];

/// What makes some of them bad when uWSGI has found them well at its start.
const SPOIL: &str = "rm missing; chmod 644 locked; echo 'no program' >text";

fn every_bad_command_has_its_verdict_and_leaves_nothing_behind(uwsgi: Uwsgi) {
    let mut legion = Legion::of(uwsgi, 2);
    let folder = legion.folder(1);
    let mut ini = format!("plugin = hetzner\n{TOLERANT}");
    legion.set_ini(2, ini.clone());
    write_program(&folder.join("spoil"), &format!("#!/bin/sh\n{SPOIL}\n")).expect("a writable folder");
    ini += &format!("legion-lord = {LEGION} cmd:{}\n", folder.join("spoil").display());
    for Bad { name, script, keys, .. } in BAD {
        let (path, script) = (folder.join(name), script.replace("WAIT", WAIT));
        let text = format!("#!/bin/sh\nIP={name}; echo $1 >>{}/calls-{name}\n{script}\n", folder.display());
        write_program(&path, &text).expect("a writable folder");
        ini +=
            &format!("legion-lord = {LEGION} failover-command:command={},ip={name}{keys}\n", path.display());
    }
    legion.set_ini(1, ini);
    legion.start_all();
    legion.wait_for_lord(1, LIMIT);
    let log = || legion.node(1).log();
    for Bad { name, is_here, said, .. } in BAD {
        let failed = log().contains(&format!("FAILED to route {name} "));
        let moved = log().contains(&format!("{name} is routed to this server ("));
        assert_eq!((failed, moved), (!is_here, *is_here), "{name}: {}", log());
        assert!(log().contains(said), "{name}, {said}: {}", log());
    }
    // Only looks come after what is unclear, and nothing after what is done.
    let calls = |name: &str| fs::read_to_string(folder.join(format!("calls-{name}"))).unwrap_or_default();
    for (name, expected) in [("child", "start\n"), ("daemon", "start\n"), ("gigabyte", "start\n")] {
        assert!(calls(name).starts_with(expected) && calls(name).matches("start").count() == 1, "{name}");
    }
    assert!(calls("dies").starts_with("start\nmonitor\n"), "{}", calls("dies"));
    assert!(log().len() < 100_000, "{} bytes of log", log().len());
    // Nobody has missed it meanwhile: the hooks have taken more than twice the tolerance.
    assert!(!legion.node(2).log().contains("left Legion"), "{}", legion.logs());

    let daemon = |name: &str| {
        let id = fs::read_to_string(folder.join(format!("daemon-{name}"))).expect("it was waited for");
        id.trim().parse::<u32>().expect("an id")
    };
    let runs = |id: u32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd.ends_with("1"));
    assert!(wait_until(LIMIT, || !runs(daemon("loud"))), "somebody still reads what it writes");
    assert!(runs(daemon("daemon")), "what has left its command's group is none of ours");
    process::signal(daemon("daemon"), SIGKILL);
    // Nothing has become of the second one but being member. A Lord without its IP tries again now and then.
    let remains = |node: usize| {
        let Remains { processes, mut descriptors, .. } =
            Remains::of(legion.node(node).id(), &legion.folder(node));
        descriptors.retain(|path, _| !path.ends_with("/log"));
        (processes, descriptors)
    };
    let same = wait_until(LIMIT, || remains(1) == remains(2));
    assert!(same, "{:#?}\n{:#?}\n{}", remains(1), remains(2), log());
    let [one, two] = [1, 2].map(|node| memory_kib(legion.node(node).id()));
    assert!(one < two + 16 * 1024, "{one} KiB, not {two} KiB");
    assert!(!log().contains("subprocess "), "uWSGI has waited for a command: {}", log());
}

/// Of no file.
fn memory_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("see proc(5)");
    memory.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// It is in a thread of its own; and when the node ends, the command does.
fn a_look_that_hangs_holds_up_nobody_and_ends_with_its_node(uwsgi: Uwsgi) {
    let mut legion = Legion::of(uwsgi, 2).with_links().with_second(SECOND);
    let folder = legion.folder(1);
    let look = "[ $1 = start ] || [ ! -e hangs ] || { touch hanging; sleep 1000; }; exit 0";
    for (name, script) in [("look", look), ("other", "echo $1 >>calls-other; exit 0")] {
        write_program(&folder.join(name), &format!("#!/bin/sh\n{script}\n")).expect("a writable folder");
    }
    for node in 1..=2 {
        let hook = |name: &str| {
            format!("failover-command:command={},ip={name},verify=5,timeout=600", folder.join(name).display())
        };
        let hooks = [(LEGION, "look"), (SECOND, "other")]
            .map(|(legion, name)| format!("legion-lord = {legion} {}\n", hook(name)));
        legion.set_ini(node, format!("plugin = hetzner\n{TOLERANT}{}", hooks.concat()));
    }
    legion.start_all();
    let settled = || legion.node(1).lord_of() == [LEGION] && legion.node(2).lord_of() == [SECOND];
    assert!(wait_until(LIMIT, settled), "{}", legion.logs());
    fs::write(folder.join("hangs"), "").expect("a writable folder");
    assert!(wait_until(LIMIT, || folder.join("hanging").exists()), "no look: {}", legion.logs());
    legion.node(1).wait_for_log("monitor was killed after ", LIMIT);
    // For twice the tolerance.
    assert!(!legion.node(2).log().contains("left Legion"), "{}", legion.logs());
    legion.kill(2);
    let calls = || fs::read_to_string(folder.join("calls-other")).unwrap_or_default();
    assert!(wait_until(LIMIT, || calls().starts_with("start\n")), "{}", legion.logs());
    assert!(wait_until(LIMIT, || legion.node(1).lord_of().len() == 2), "{}", legion.logs());
    let remains = || Remains::of(legion.node(1).id(), &folder).processes;
    assert!(wait_until(LIMIT, || remains().contains_key("sleep")), "no other look: {:?}", remains());
    legion.node(1).signal(SIGINT);
    let ended = |legion: &mut Legion| legion.wait_for_exit(1, LIMIT);
    assert!(ended(&mut legion), "{}", legion.logs());
    let remains = || Remains::of(legion.node(1).id(), &folder).processes;
    assert!(wait_until(LIMIT, || remains().is_empty()), "{:?}", remains());
}

/// Its loop waits for any child at each turn, and turns for each byte in its FIFO.
fn a_busy_master_takes_no_exit_status_away(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (command, fifo) = (folder.path().join("command"), folder.path().join("fifo"));
    write_program(&command, "#!/bin/sh\necho $1 >>calls-$2\n").expect("a writable folder");
    let ips: Vec<String> = (0..100).map(|number| format!("ip{number}")).collect();
    let mut ini = format!(
        "plugin = hetzner\n{QUICK}master-fifo = {}\nlegion = {LEGION} {} 1 aes-128-cbc:secret1\n",
        fifo.display(),
        free_address()
    );
    for ips in ips.chunks(10) {
        let (command, ips) = (command.display(), ips.join(";"));
        ini += &format!("legion-lord = {LEGION} failover-command:command={command},ip={ips}\n");
    }
    let node = Node::start(uwsgi, folder.path(), &ini, &[]);
    assert!(wait_until(LIMIT, || fifo.exists()), "{}", node.log());
    let mut fifo = File::options().write(true).open(&fifo).expect("uWSGI reads from it");
    let is_lord = || node.log().contains("i am now the Lord");
    // A byte that means nothing to it.
    assert!(
        wait_until(LIMIT, || (0..100).all(|_| fifo.write_all(b"~").is_ok()) && is_lord()),
        "{}",
        node.log()
    );
    for ip in &ips {
        let calls = fs::read_to_string(folder.path().join(format!("calls-{ip}"))).unwrap_or_default();
        assert_eq!(calls.matches("start").count(), 1, "{ip}: {}", node.log());
    }
    assert!(!node.log().contains("not yet"), "an exit status is unknown: {}", node.log());
    assert!(!node.log().contains("subprocess "), "{}", node.log());
    // The master and its worker have one name.
    let processes = || Remains::of(node.id(), folder.path()).processes.into_values().collect::<Vec<usize>>();
    assert!(wait_until(LIMIT, || processes() == [2]), "{:?}", Remains::of(node.id(), folder.path()));
}

/// There may be no next one.
fn what_a_call_has_left_is_no_zombie_until_the_next(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let command = folder.path().join("command");
    write_program(&command, "#!/bin/sh\nsleep 2 &\nexit 0\n").expect("a writable folder");
    let ini = format!(
        "plugin = hetzner\n{QUICK}legion = {LEGION} {} 1 aes-128-cbc:secret1\n\
         legion-lord = {LEGION} failover-command:command={},ip=one,verify=0\n",
        free_address(),
        command.display(),
    );
    let node = Node::start(uwsgi, folder.path(), &ini, &[]);
    let processes = || Remains::of(node.id(), folder.path()).processes;
    assert!(wait_until(LIMIT, || processes().contains_key("sleep")), "{}", node.log());
    let is_alone = || processes().into_values().sum::<usize>() == 2;
    assert!(wait_until(LIMIT, is_alone), "{:?}", processes());
}

/// If it cannot run its own command, it calls what the master calls at its end.
fn a_child_of_uwsgi_that_fails_ends_no_call(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [command, shell, touched] = ["command", "shell", "touched"].map(|name| folder.path().join(name));
    let script = "#!/bin/sh\ntouch begun\nwhile [ ! -e go ]; do sleep 0.05; done\n";
    write_program(&command, script).expect("a writable folder");
    write_program(&shell, "#!/nonexistent/shell\n").expect("a writable folder");
    fs::write(&touched, "").expect("a writable folder");
    let ini = format!(
        "plugin = hetzner\n{QUICK}legion = {LEGION} {} 1 aes-128-cbc:secret1\nbinsh = {}\n\
         touch-exec = {} true\nlegion-lord = {LEGION} failover-command:command={},ip=one\n",
        free_address(),
        shell.display(),
        touched.display(),
        command.display(),
    );
    let node = Node::start(uwsgi, folder.path(), &ini, &[]);
    assert!(wait_until(LIMIT, || folder.path().join("begun").exists()), "{}", node.log());
    let has_failed = || fs::write(&touched, "again").is_ok() && node.log().contains("execvp()");
    assert!(wait_until(LIMIT, has_failed), "{}", node.log());
    let processes = || Remains::of(node.id(), folder.path()).processes;
    // Nothing but uWSGI's own two, the minder, the command and what it sleeps with: the child has ended.
    let has_ended = || processes().values().max() == Some(&2);
    assert!(wait_until(LIMIT, has_ended), "{:?}", processes());
    fs::write(folder.path().join("go"), "").expect("a writable folder");
    assert!(wait_until(LIMIT, || node.log().contains("i am now the Lord")), "{}", node.log());
    assert!(!node.log().contains("start was killed"), "{}", node.log());
}

/// A command that writes down what it was given, in the folder that it runs in. Its signals by itself: while a shell starts
/// another program it may block some.
const WRITES_DOWN: &str = "\
python3 -c 'import os, sys
fds = [f\"/proc/self/fd/{number}\" for number in range(256)]
links = [os.readlink(fd) for fd in fds if os.path.islink(fd)]
open(sys.argv[1], \"w\").write(\"\\n\".join(links))' fds-$2
while read line; do case $line in SigBlk*|SigIgn*) echo $line; esac; done </proc/$$/status >signals-$2
ps -o pgid= -p $$ | grep -qw $$ && echo its own >group-$2
env -0 >env-$2
printf '%s\\0' \"$@\" >argv-$2
cat >stdin-$2
exit 0
";

fn a_call_is_given_what_it_needs_and_nothing_else(uwsgi: Uwsgi) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (command, env_file) = (folder.path().join("command"), folder.path().join("env_file"));
    write_program(&command, &format!("#!/bin/sh\n{WRITES_DOWN}")).expect("a writable folder");
    let lines = "# Where it is.\n\nPLAIN=a b=c\nSINGLE='a \"b\"'\nDOUBLE=\"it's\"\nEMPTY=\nOWN=of the file\n";
    fs::write(&env_file, lines).expect("a writable folder");
    fs::set_permissions(&env_file, Permissions::from_mode(0o600)).expect("our own file");
    let hook = |keys: &str| {
        format!("legion-lord = {LEGION} failover-command:command={},{keys}\n", command.display())
    };
    let ini = format!(
        "plugin = hetzner\n{QUICK}legion = {LEGION} {} 1 aes-128-cbc:secret1\n{}{}",
        free_address(),
        hook(&format!("ip=one;two,target=web 1,env_file={}", env_file.display())),
        hook("ip=bare"),
    );
    let node = Node::start(uwsgi, folder.path(), &ini, &[("OWN", "of uWSGI"), ("UNCHANGED", "yes")]);
    let is_lord = || node.log().contains("i am now the Lord");
    assert!(wait_until(LIMIT, is_lord), "{}", node.log());
    for (ip, target, own) in
        [("one", "web 1", "of the file"), ("two", "web 1", "of the file"), ("bare", "", "of uWSGI")]
    {
        let read = |what: &str| {
            let file = folder.path().join(format!("{what}-{ip}"));
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{what}-{ip}: {error}: {}", node.log()))
        };
        let parts = |what: &str| read(what).split_terminator('\0').map(String::from).collect::<Vec<_>>();
        assert_eq!(parts("argv"), ["start", ip, target, LEGION]);
        let env = parts("env");
        let value = |name: &str| env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        for (name, expected) in [
            ("FAILOVER_ACTION", Some("start")),
            ("FAILOVER_IP", Some(ip)),
            ("FAILOVER_TARGET", Some(target)),
            ("FAILOVER_LEGION", Some(LEGION)),
            ("OCF_RESKEY_ip", Some(ip)),
            ("OWN", Some(own)),
            ("UNCHANGED", Some("yes")),
            ("PLAIN", (ip != "bare").then_some("a b=c")),
            ("SINGLE", (ip != "bare").then_some("a \"b\"")),
            ("DOUBLE", (ip != "bare").then_some("it's")),
            ("EMPTY", (ip != "bare").then_some("")),
            // That is for agents.
            ("OCF_ROOT", None),
        ] {
            assert_eq!(value(name), expected, "{ip}: {name}");
        }
        let fds: Vec<String> = read("fds").lines().map(String::from).collect();
        let [input, output, error] = &fds[..] else { panic!("{ip}: {fds:?}") };
        assert!(input == "/dev/null" && output == error && output.starts_with("pipe:"), "{ip}: {fds:?}");
        for line in read("signals").lines() {
            let signals = line.split_whitespace().last().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            // Without the two that the C library keeps for itself.
            assert_eq!(signals.map(|signals| signals & 0x7fff_ffff), Some(0), "{ip}: {line}");
        }
        assert_eq!((read("group").as_str(), read("stdin").as_str()), ("its own\n", ""));
    }
}

/// In what way soever a command writes it, and wherever its output is cut.
fn no_value_of_the_env_file_shows(uwsgi: Uwsgi) {
    const SECRET: &str = "NOT-A-REAL-SECRET-WORD";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (env_file, alarms) = (folder.path().join("env_file"), folder.path().join("alarms"));
    fs::write(&env_file, format!("KEY='{SECRET}'\nWITH_SPACE=\"NOT-A-REAL  SECRET-WORD\"\n"))
        .expect("a writable folder");
    fs::set_permissions(&env_file, Permissions::from_mode(0o600)).expect("our own file");
    let mut ini = format!(
        "plugin = hetzner\n{QUICK}legion = {LEGION} {} 1 aes-128-cbc:secret1\nalarm = pager cmd:cat >> {}\n{NO_WARNING}",
        free_address(),
        alarms.display()
    );
    // The end of a secret whose beginning was cut off: at another place for each IP.
    let many = "while [ $((i = i + 1)) -lt 3000 ]; do printf '%s' \"$KEY\"; done; printf \"%${2#ip}s\"";
    let scripts = [
        "echo \"$KEY\"",
        "echo \"$WITH_SPACE\" >&2",
        "printf 'wrong key %s' \"$KEY\" >&2",
        "printf '%s' \"$KEY\" | (head -c 9; sleep 1; cat)",
        "set -x; : \"$KEY\"",
        many,
        many,
        many,
        many,
    ];
    for (number, script) in scripts.iter().enumerate() {
        let path = folder.path().join(format!("command{number}"));
        write_program(&path, &format!("#!/bin/bash\n{script}\nexit 2\n")).expect("a writable folder");
        ini += &format!(
            "legion-lord = {LEGION} failover-command:command={},ip=ip{number},env_file={},deadline=5,alarm=pager\n",
            path.display(),
            env_file.display()
        );
    }
    let node = Node::start(uwsgi, folder.path(), &ini, &[]);
    node.wait_for_log("suspending myself", LIMIT);
    let told = || fs::read_to_string(&alarms).unwrap_or_default();
    assert!(wait_until(LIMIT, || told().contains("FAILED")), "{}", node.log());
    for text in [node.log(), told()] {
        assert!(text.contains("***"), "nothing was there to be hidden: {text}");
        // Six letters of it say too much.
        for piece in ["NOT-A-R", "REAL-SE", "SECRET-", "RET-WORD", "EAL  SE"] {
            assert!(!text.contains(piece), "{piece} in {text}");
        }
    }
}

/// Each names the key, and what to do; all are told in one start.
#[test]
fn what_is_wrong_with_a_hook_is_told_at_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let in_folder = |name: &str| folder.path().join(name).display().to_string();
    for (name, text, mode) in [
        ("well", "#!/bin/sh\n", 0o755),
        ("plain", "#!/bin/sh\n", 0o644),
        ("broken", "A=b\nno value NOT-A-REAL-SECRET\n", 0o600),
        ("name", "1A=NOT-A-REAL-SECRET\n", 0o600),
        ("closed", "A=b\n", 0o000),
    ] {
        fs::write(in_folder(name), text).expect("a writable folder");
        fs::set_permissions(in_folder(name), Permissions::from_mode(mode)).expect("our own file");
    }
    let mut cases = vec![
        (
            "command=bin/move-ip,ip=a",
            "command=bin/move-ip is not valid: expected the absolute path of a program",
        ),
        ("command=FOLDER/nowhere,ip=a", "command=FOLDER/nowhere cannot be run (No such file or directory"),
        ("command=FOLDER,ip=a", "command=FOLDER cannot be run (it is no file): expected a program"),
        ("command=FOLDER/plain,ip=a", "command=FOLDER/plain cannot be run (it is not executable: chmod 755 "),
        (
            "command=FOLDER/well --fast,ip=a",
            "command=FOLDER/well --fast cannot be run (No such file or directory",
        ),
        ("command=,ip=a", "command is empty"),
        (
            "ip=a",
            "command is missing: set command to the absolute path of a program, without arguments, or agent",
        ),
        ("WELL,agent=ocf:heartbeat:Dummy,ip=a", "command and agent are both given: keep one"),
        ("agent=Dummy,ip=a", "agent=Dummy is not valid: expected ocf:PROVIDER:NAME"),
        ("agent=ocf:heartbeat:,ip=a", "agent=ocf:heartbeat: is not valid: expected ocf:PROVIDER:NAME"),
        ("agent=ocf:heartbeat:../../bin/true,ip=a", "agent=ocf:heartbeat:../../bin/true is not valid"),
        ("agent=ocf:pacemaker:Dummy:more,ip=a", "agent=ocf:pacemaker:Dummy:more is not valid"),
        ("agent=ocf:heartbeat:none,ip=a", "agent=/usr/lib/ocf/resource.d/heartbeat/none cannot be run"),
        ("WELL,ocf_cidr_netmask=24,ip=a", "ocf_cidr_netmask is for an agent: put it into env_file"),
        ("WELL", "ip is missing: set ip to what the command moves"),
        ("WELL,ip=", "ip is empty"),
        ("WELL,ip=a;;b", "ip=a;;b has an empty item"),
        ("WELL,ip=a;a", "ip=a;a contains a twice"),
        ("WELL,ip=-a", "ip=-a is not valid: the command would take it for an option"),
        ("WELL,ip=a,env_file=FOLDER/nowhere", "env_file=FOLDER/nowhere: No such file or directory"),
        ("WELL,ip=a,env_file=FOLDER", "env_file=FOLDER: Is a directory"),
        ("WELL,ip=a,env_file=FOLDER/broken", "env_file=FOLDER/broken: line 2 is not NAME=value"),
        ("WELL,ip=a,env_file=FOLDER/name", "env_file=FOLDER/name: line 1 is not NAME=value"),
        ("WELL,ip=a,deadline=-1", "deadline=-1 is not valid"),
        ("WELL,ip=a,verify=never", "verify=never is not valid"),
    ];
    if !is_root() {
        cases.push(("WELL,ip=a,env_file=FOLDER/closed", "env_file=FOLDER/closed: Permission denied"));
    }
    let written = |text: &str| {
        text.replace("WELL", "command=FOLDER/well").replace("FOLDER", &folder.path().display().to_string())
    };
    let mut not_so = Vec::new();
    for ((hook, expected), uwsgi) in cases.into_iter().zip(Uwsgi::ALL.into_iter().cycle()) {
        let told = start(uwsgi, &format!("failover-command:{}", written(hook)), NO_WARNING, true);
        let expected = format!("Legion failover, legion-lord: {}", written(expected));
        if told.len() != 1 || !told[0].starts_with(&expected) || told[0].contains("NOT-A-REAL") {
            not_so.push((hook, told));
        }
    }
    assert!(not_so.is_empty(), "{not_so:#?}");
}
