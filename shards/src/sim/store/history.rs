//! Histories: several lives on the same files, with a crash after each.

use std::pin::pin;
use std::rc::Rc;

use super::super::{Random, SimDirectory, SimDisk, run};
use super::life::{Bug, Plan, Size, World, live};
use super::model::{Met, Model};
use super::platform::Frames;
use super::senders::Senders;
use crate::head::TimeWindows;
use crate::rt::BLOCK_BYTES;

/// One history. The error says what was violated.
pub fn history(seed: u64, bug: Option<Bug>) -> Result<Met, String> {
    let random = Random::new(seed);
    let (world, choices) = (world(&random, bug), random.fork());
    let loses = choices.one_in(4);
    for _ in 0..2 + choices.below(6) {
        let calm = choices.one_in(2);
        world.disk.fail_writes_after((!calm && choices.one_in(4)).then(|| choices.below(60)));
        let full_soon = !calm && choices.one_in(3);
        let space_bytes = if full_soon { choices.below(40 * BLOCK_BYTES as u64) } else { u64::MAX };
        world.directory.limit_space(space_bytes);
        let steps =
            (!choices.one_in(6)).then(|| choices.below([500, 4000, 20_000][choices.below(3) as usize]));
        let plan = Plan {
            senders: 1 + choices.below(3),
            requests: choices.below(40),
            reads: choices.below(8),
            cuts: choices.below(30),
            files_max: usize::MAX,
        };
        let crashed = {
            let mut life = pin!(live(&world, plan));
            let crashed = run(life.as_mut(), steps).is_none();
            // A process that ends in order still takes the writes of its background tasks with it.
            crash(&world, &choices);
            crashed
        };
        world.model.met("crashes in the midst", u64::from(crashed));
        if let Some(seq) = world.frames.overwritten() {
            return Err(format!("frame {seq} is needed and was overwritten"));
        }
        if let Some(violation) = world.model.violation() {
            return Err(violation);
        }
        if loses
            && choices.one_in(2)
            && let Some(what) = world.model.losses.cause(&world.directory, &choices)
        {
            world.model.met(what, 1);
        }
    }
    Ok(world.model.take_met())
}

/// One long life without faults. What the shard took after each cut.
pub fn long_life(seed: u64) -> Result<Vec<Size>, String> {
    let world = world(&Random::new(seed), None);
    let plan = Plan { senders: 2, requests: 4000, reads: 100, cuts: 5000, files_max: 12 };
    let life = run(pin!(live(&world, plan)), Some(20_000_000)).flatten();
    match (world.model.violation(), life) {
        (Some(violation), _) => Err(violation),
        (None, Some(life)) => Ok(life.sizes.take()),
        (None, None) => Err("it does not end".to_owned()),
    }
}

fn world(random: &Random, bug: Option<Bug>) -> World {
    let choices = random.fork();
    let blocks = 24 + choices.below(60) as usize;
    let windows = TimeWindows {
        block_ms: 1000,
        out_of_order_ms: [0, 300, 1000, 2500][choices.below(4) as usize],
        future_ms: 0,
    };
    let senders = Senders::new(random.fork(), windows);
    // Samples ahead of the clock do not make others too old.
    let now_ms =
        if choices.one_in(4) { senders.newest_ms() + choices.below(20_000) as i64 } else { i64::MAX };
    World {
        disk: SimDisk::new(random.fork(), blocks * BLOCK_BYTES),
        directory: SimDirectory::new(random.fork()),
        frames: Rc::new(Frames::default()),
        model: Rc::new(Model::default()),
        senders: Rc::new(senders),
        windows,
        now_ms,
        bug,
        choices,
    }
}

fn crash(world: &World, choices: &Random) {
    if choices.one_in(2) {
        world.model.met("kills", 1);
        world.disk.kill();
        world.directory.kill();
    } else {
        world.model.met("power cuts", 1);
        world.disk.cut_power();
        world.directory.cut_power();
    }
}
