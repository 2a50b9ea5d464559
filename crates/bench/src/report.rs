//! What is printed: a line for each load and server, medians of the rounds, and how ours stands to each other one.

use std::collections::BTreeMap;

use crate::bare;
use crate::loads::{BARE_RATE, Kind, Load};
use crate::measure::Measured;
use crate::stage::Stage;

/// Where the bare server's own runs are noted.
pub(crate) const BARE: usize = usize::MAX;

/// The results so far.
pub(crate) struct Report {
    names: Vec<String>,
    rounds: BTreeMap<(&'static str, usize), Vec<Measured>>,
}

impl Report {
    /// Begins a report on these servers.
    pub(crate) fn new(stages: &[Stage]) -> Self {
        for stage in stages {
            println!(
                "{}: idle RSS {:.1} MiB, {:.1} when it had just been unsealed",
                stage.contender.name, stage.idle_mib, stage.opened_mib
            );
        }
        println!(
            "\n{:<18} {:<10} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8} {:>9} {:>8} {:>6} {:>8}",
            "load",
            "server",
            "req/s",
            "p50 ms",
            "p99 ms",
            "CPU us",
            "busy",
            "RSS MiB",
            "disk MiB",
            "of bare",
            "goal",
            "reached"
        );
        let names = stages.iter().map(|stage| stage.contender.name.clone()).collect();
        Self { names, rounds: BTreeMap::new() }
    }

    /// Notes one run.
    pub(crate) fn note(&mut self, load: &'static str, server: usize, measured: Measured) {
        self.rounds.entry((load, server)).or_default().push(measured);
    }

    /// Prints what a load came to.
    pub(crate) fn print_load(&self, load: &Load) {
        if load.kind == Kind::Bare {
            print_line(load, bare::COMMAND, &self.result(load.name, BARE), "");
            return;
        }
        let mut ours: Option<Measured> = None;
        for (at, name) in self.names.iter().enumerate() {
            let result = self.result(load.name, at);
            if let Some(refused) = &result.refused {
                println!("{:<18} {name:<10} no result: {refused}", load.name);
                continue;
            }
            let ratio = ours
                .as_ref()
                .map(|ours| format!("  x{:.1} rate, x{:.2} CPU", ours.rate / result.rate, ours.cpu_us / result.cpu_us));
            print_line(load, name, &result, &ratio.unwrap_or_default());
            let audited =
                load.audited.map(|audited| self.result(audited, at)).filter(|audited| audited.refused.is_none());
            if let Some(audited) = audited {
                println!(
                    "{:<18} {name:<10} audit takes {:.0} % of the throughput ({:.0} % of the CPU: {:.1} us of {:.1})",
                    "",
                    (1.0 - audited.rate / result.rate) * 100.0,
                    (1.0 - result.cpu_us / audited.cpu_us) * 100.0,
                    audited.cpu_us - result.cpu_us,
                    audited.cpu_us
                );
            }
            if at == 0 {
                ours = Some(result);
            }
        }
    }

    fn result(&self, load: &'static str, server: usize) -> Measured {
        medians(self.rounds.get(&(load, server)).map_or(&[][..], Vec::as_slice))
    }

    /// Prints what a server holds at the end.
    pub(crate) fn print_end(&self, stage: &Stage) -> Result<(), String> {
        println!(
            "\n{}: RSS after all loads {:.1} MiB, disk {:.1} MiB",
            stage.contender.name,
            stage.contender.usage()?.resident_mib,
            stage.contender.disk_mib()
        );
        Ok(())
    }
}

fn print_line(load: &Load, server: &str, result: &Measured, ratio: &str) {
    let goal = load.goal.map(|goal| goal / BARE_RATE);
    let of_goal = goal.map(|goal| format!(" {goal:>6.3} {:>7.0}%", result.of_bare / goal * 100.0));
    println!(
        "{:<18} {server:<10} {:>9.0} {:>9.3} {:>9.3} {:>9.1} {:>5.0}% {:>8.1} {:>9.1} {:>8.3}{}{ratio}",
        load.name,
        result.rate,
        result.p50,
        result.p99,
        result.cpu_us,
        result.busy * 100.0,
        result.resident_mib,
        result.disk_mib,
        result.of_bare,
        of_goal.unwrap_or_default()
    );
}

/// The median of each figure; a refusal of any round is the result.
fn medians(rounds: &[Measured]) -> Measured {
    let refused = rounds.iter().find_map(|round| round.refused.clone());
    let of = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(0.0)
    };
    Measured {
        rate: of(|round| round.rate),
        of_bare: of(|round| round.of_bare),
        p50: of(|round| round.p50),
        p99: of(|round| round.p99),
        cpu_us: of(|round| round.cpu_us),
        busy: of(|round| round.busy),
        resident_mib: of(|round| round.resident_mib),
        disk_mib: of(|round| round.disk_mib),
        refused: refused.or_else(|| rounds.is_empty().then(|| "not run".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rate: f64) -> Measured {
        Measured { rate, ..Measured::default() }
    }

    #[test]
    fn one_disturbed_round_does_not_show() {
        assert!((medians(&[round(10.0), round(900.0), round(11.0)]).rate - 11.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_refusal_is_never_hidden_by_other_rounds() {
        let refused = Measured { refused: Some("no".to_owned()), ..Measured::default() };
        assert_eq!(medians(&[round(1.0), refused, round(2.0)]).refused.as_deref(), Some("no"));
        assert!(medians(&[]).refused.is_some());
    }
}
