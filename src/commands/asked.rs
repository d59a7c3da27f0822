//! What the command line asks for.

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Check,
    Status,
    Takeover,
    Release,
}

impl Command {
    const ALL: [Command; 4] = [Command::Check, Command::Status, Command::Takeover, Command::Release];

    /// Its option is `hetzner-` and this.
    pub fn name(self) -> &'static str {
        match self {
            Command::Check => "check",
            Command::Status => "status",
            Command::Takeover => "takeover",
            Command::Release => "release",
        }
    }
}

/// The options of ours that were given, each once.
#[derive(Clone)]
pub struct Asked {
    commands: Vec<Command>,
    /// The last one that was named.
    pub legion: Option<String>,
    pub json: bool,
}

impl Asked {
    pub const fn new() -> Asked {
        Asked { commands: Vec::new(), legion: None, json: false }
    }

    /// Notes an option by its name, as uWSGI reads it.
    pub fn note(&mut self, option: &str, value: Option<&str>) {
        let name = option.trim_start_matches("hetzner-");
        if let Some(command) = Command::ALL.into_iter().find(|command| command.name() == name) {
            if !self.commands.contains(&command) {
                self.commands.push(command);
            }
        }
        match name {
            "legion" => self.legion = value.map(str::to_string),
            "json" => self.json = true,
            _ => {}
        }
    }

    /// The command, if there is one; or a sentence that says what is wrong with the command line. What was meant for a
    /// command must never start a server.
    pub fn command(&self) -> Result<Option<Command>, String> {
        let options = |commands: &[Command]| {
            let names = commands.iter().map(|command| format!("--hetzner-{}", command.name()));
            names.collect::<Vec<_>>()
        };
        match &self.commands[..] {
            [command] => Ok(Some(*command)),
            [] => {
                let [others @ .., last] = &options(&Command::ALL)[..] else { return Ok(None) };
                let which = format!("{} or {last}", others.join(", "));
                let alone = match (self.json, &self.legion) {
                    (true, _) => "--hetzner-json",
                    (_, Some(_)) => "--hetzner-legion",
                    _ => return Ok(None),
                };
                Err(format!("{alone} says how to do a command, but there is none: add {which}"))
            }
            commands => Err(format!("{} are given: one command at a time", options(commands).join(" and "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(options: &[&str]) -> Result<Option<Command>, String> {
        let mut asked = Asked::new();
        options.iter().for_each(|option| asked.note(option, Some("a value")));
        asked.command()
    }

    #[test]
    fn one_command_at_a_time() {
        assert_eq!(command(&[]), Ok(None));
        assert_eq!(command(&["hetzner-unheard-of"]), Ok(None));
        assert_eq!(command(&["hetzner-json", "hetzner-check", "hetzner-legion"]), Ok(Some(Command::Check)));
        // In the ini and on the command line.
        assert_eq!(command(&["hetzner-status", "hetzner-status"]), Ok(Some(Command::Status)));
        for (options, expected) in [
            (["hetzner-check", "hetzner-release"], "--hetzner-check and --hetzner-release are given"),
            (
                ["hetzner-json", "hetzner-legion"],
                "--hetzner-json says how to do a command, but there is none",
            ),
            (["hetzner-legion", "hetzner-legion"], "--hetzner-legion says how"),
        ] {
            let sentence = command(&options).expect_err("no sense in it");
            assert!(sentence.starts_with(expected), "{sentence}");
        }
    }
}
