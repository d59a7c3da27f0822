//! What the command line asks for.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Check,
    Status,
    Takeover,
    Release,
}

impl Command {
    const ALL: [Command; 4] = [Command::Check, Command::Status, Command::Takeover, Command::Release];

    /// The name of its option, after `--hetzner-`.
    pub fn name(self) -> &'static str {
        match self {
            Command::Check => "check",
            Command::Status => "status",
            Command::Takeover => "takeover",
            Command::Release => "release",
        }
    }
}

/// The options of this plugin that were given, each once.
#[derive(Clone)]
pub struct Asked {
    commands: Vec<Command>,
    /// The last one that was given.
    pub legion: Option<String>,
    pub json: bool,
}

impl Asked {
    pub const fn new() -> Asked {
        Asked { commands: Vec::new(), legion: None, json: false }
    }

    /// Notes an option when uWSGI reads it.
    pub fn note(&mut self, option: &str, value: Option<&str>) {
        match option.trim_start_matches("hetzner-") {
            "legion" => self.legion = value.map(str::to_string),
            "json" => self.json = true,
            name => {
                let command = Command::ALL.into_iter().find(|command| command.name() == name);
                self.commands.extend(command.filter(|command| !self.commands.contains(command)));
            }
        }
    }

    /// The command, if there is one; or what is wrong with the command line: what was meant as a command must never start
    /// a server.
    pub fn command(&self) -> Result<Option<Command>, String> {
        let options = |commands: &[Command], between: &str| {
            let options = commands.iter().map(|command| format!("--hetzner-{}", command.name()));
            options.collect::<Vec<_>>().join(between)
        };
        let alone = match &self.commands[..] {
            [command] => return Ok(Some(*command)),
            [] if self.json => "--hetzner-json",
            [] if self.legion.is_some() => "--hetzner-legion",
            [] => return Ok(None),
            several => return Err(format!("{}: only one command at a time", options(several, " and "))),
        };
        Err(format!("{alone} needs a command: add {}", options(&Command::ALL, " or ")))
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
            (
                ["hetzner-check", "hetzner-release"],
                "--hetzner-check and --hetzner-release: only one command at a time",
            ),
            (["hetzner-json", "hetzner-legion"], "--hetzner-json needs a command: add --hetzner-check or"),
            (
                ["hetzner-legion", "hetzner-legion"],
                "--hetzner-legion needs a command: add --hetzner-check or",
            ),
        ] {
            let sentence = command(&options).expect_err("it makes no sense");
            assert!(sentence.starts_with(expected), "{sentence}");
        }
    }
}
