//! A table and a chart of each server's outages.

use std::fmt::Write as _;
use std::path::Path;

use super::figures::{self, Outage};
use super::timeline::Event;
use crate::storm::Outcome;
use crate::storm::chart;

/// The tables. The charts go to the folder `storms` of the page.
pub(crate) fn tables(results: &Path, docs: &Path) -> Outcome<String> {
    let mut text = String::new();
    for outages in groups(figures::read(results)?) {
        let Some(first) = outages.first() else {
            continue;
        };
        let title = format!("{}: an outage of {} s", first.server, first.seconds);
        let file = format!("storms/{}.svg", chart::file_name(&title));
        draw(&outages, &docs.join(&file))?;
        _ = write!(
            text,
            "\n### {title}\n\n{} operations a second arrive.\n\n![{title}: bodies in each second]({file})\n\n",
            first.rate
        );
        text += &table(&outages);
    }
    Ok(text)
}

/// Those of the same server and length; of each policy the last one.
fn groups(all: Vec<Outage>) -> Vec<Vec<Outage>> {
    let mut groups: Vec<Vec<Outage>> = Vec::new();
    let place = |outage: &Outage| (outage.server.clone(), outage.rate, outage.seconds.to_bits());
    for outage in all {
        let group = groups
            .iter_mut()
            .find(|group| place(&group[0]) == place(&outage));
        match group {
            Some(group) => match group.iter_mut().find(|old| old.policy == outage.policy) {
                Some(old) => *old = outage,
                None => group.push(outage),
            },
            None => groups.push(vec![outage]),
        }
    }
    groups
}

fn table(outages: &[Outage]) -> String {
    let mut text = String::from(
        "| policy | failed | bodies/s before | first second after | first five | attempts to connect/s in \
         the outage | connections opened in the first second after | as before after | untold |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for outage in outages {
        let calm = outage
            .calm()
            .map_or("more".into(), |seconds| format!("{seconds} s"));
        _ = writeln!(
            text,
            "| {} | {} of {} | {:.0} | {:.0} ({:.1} times) | {:.0} ({:.1} times) | {:.0} | {:.0} \
             | {calm} | {} |",
            outage.policy,
            outage.all(Event::Failed),
            outage.all(Event::Arrived),
            outage.before(Event::Body),
            outage.after(Event::Body, 1),
            outage.extra(1),
            outage.after(Event::Body, 5),
            outage.extra(5),
            outage.meanwhile(Event::Connecting),
            outage.after(Event::Connected, 1),
            outage.untold,
        );
    }
    text
}

fn draw(outages: &[Outage], path: &Path) -> Outcome<()> {
    let lines = outages.iter().map(|outage| {
        let seconds = outage.seconds(Event::Body);
        (outage.policy.as_str(), seconds.collect())
    });
    chart::draw_over_time("bodies in each second", &lines.collect::<Vec<_>>(), path)
}
