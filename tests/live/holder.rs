//! A process that holds shards, for the tests of authorities. It reads a config from a file, begins
//! a session under a generation, renews it, and claims the shards that its input names. It prints
//! the results as JSON lines and ends with its input, without a release.
//!
//! Its commands are `claim GROUP FROM COUNT`, `release GROUP FROM COUNT` and, with etcd,
//! `record GROUP INDEX EPOCH VALUE`.

use std::io::BufRead;
use std::rc::Rc;
use std::time::Instant;

use heartbeat_actors::Config;
use heartbeat_actors::authority::{
    Authority, AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName, open,
};
use heartbeat_actors::worker::Generation;
use serde_json::{Value, json};

/// GROUP FROM COUNT.
fn shards(words: &[&str]) -> Result<Vec<ShardName>, Box<dyn std::error::Error>> {
    let [group, from, count] = words else { return Err("use GROUP FROM COUNT".into()) };
    let (from, count) = (from.parse::<u32>()?, count.parse::<u32>()?);
    Ok((from..from + count).map(|index| ShardName { group: (*group).into(), index }).collect())
}

fn claimed(answer: AuthorityResponse) -> Value {
    let AuthorityResponse::Claimed(claimed) = answer else { return format!("{answer:?}").into() };
    let one = |claimed| match claimed {
        Claimed::Granted(epoch) => json!(epoch.0),
        Claimed::Held { by } => json!(&*by),
    };
    claimed.into_iter().map(one).collect()
}

/// GROUP INDEX EPOCH VALUE.
#[cfg(feature = "etcd")]
async fn record(config: &Config, words: &[&str]) -> Result<Value, Box<dyn std::error::Error>> {
    use heartbeat_actors::authority::{Claimant, EtcdAuthority};
    let [group, index, epoch, value] = words else { return Err("use GROUP INDEX EPOCH VALUE".into()) };
    let shard = ShardName { group: (*group).into(), index: index.parse()? };
    let cluster = config.cluster.as_ref().ok_or("no cluster")?;
    let (cluster, node) = ((&*cluster.name).into(), (&*cluster.node).into());
    let claimant = Claimant { cluster, node, generation: Generation(0) };
    let authority = EtcdAuthority::new(&config.ownership.etcd, config.ownership.session_ttl, claimant)?;
    let recorded = authority.record(&shard, heartbeat_actors::shard::Epoch(epoch.parse()?), "value", *value).await;
    Ok(recorded.map_or_else(|error| error.to_string(), |recorded| format!("{recorded:?}")).into())
}

#[cfg(not(feature = "etcd"))]
async fn record(_: &Config, _: &[&str]) -> Result<Value, Box<dyn std::error::Error>> {
    Err("only etcd records".into())
}

async fn obey(
    config: &Config,
    authority: &Rc<dyn Authority>,
    session: SessionId,
    line: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = line.split(' ').collect();
    let begun = Instant::now();
    let ask = async |ask| match authority.clone().ask(ask).await {
        Ok(answer) => claimed(answer),
        Err(error) => error.to_string().into(),
    };
    let answer = match words[0] {
        "claim" => {
            ask(AuthorityRequest::Claim { session, shards: shards(&words[1..])?, floor: heartbeat_core::Epoch(0) })
                .await
        }
        "release" => ask(AuthorityRequest::Release { session, shards: shards(&words[1..])? }).await,
        "record" => record(config, &words[1..]).await?,
        _ => return Err(format!("{line:?} is no command").into()),
    };
    println!("{}", json!({ "did": words[0], "answer": answer, "us": begun.elapsed().as_micros() as u64 }));
    Ok(())
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(generation)) = (arguments.next(), arguments.next()) else {
        return Err("usage: holder CONFIG GENERATION".into());
    };
    let config = Config::from_toml(&std::fs::read_to_string(path)?)?;
    let authority = open(&config, Generation(generation.parse()?))?.ok_or("ownership.authority is \"view\"")?;
    let open = AuthorityRequest::Open { ttl: config.ownership.session_ttl, previous: None };
    let AuthorityResponse::Opened { session, ttl } = authority.clone().ask(open).await? else {
        return Err("no session".into());
    };
    println!("{}", json!({ "did": "open", "ttl_ms": ttl.as_millis() as u64 }));
    let renewing = authority.clone();
    actix_rt::spawn(async move {
        loop {
            tokio::time::sleep(ttl / 3).await;
            let text = match renewing.clone().ask(AuthorityRequest::Renew { session }).await {
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error.to_string(),
            };
            println!("{}", json!({ "did": "renew", "answer": text }));
        }
    });
    let (lines, mut input) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        // The reader of the output is there until the process ends; an error is the end of the
        // input.
        std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    while let Some(line) = input.recv().await {
        obey(&config, &authority, session, &line).await?;
    }
    Ok(())
}
