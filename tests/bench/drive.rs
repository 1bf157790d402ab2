//! One measurement after the other, in rounds, so that what else the machine does hits all of them alike.

use super::{
    append,
    desk::key,
    load::{Load, Requests, Run},
    parts,
    scene::{Scene, elsewhere},
    serve::{CONSTANT, Server},
    table,
};
use serde_json::Value;
use std::{env, sync::Arc, time::Duration};

/// Connections, each with one request under way.
pub(super) const CONNECTIONS: usize = 128;
/// Known tokens, each of another user.
const KNOWN: usize = 1_000;
/// Of these rounds the first warms up, and does not count.
const ROUNDS: usize = 6;
/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(2);
/// Fresh tokens for one measurement: more than are exchanged in that time.
const FRESH: usize = 30_000;

/// What is measured.
pub(super) struct Measured {
    /// What it is called.
    pub name: &'static str,
    /// How a user's rights are asked for.
    pub mode: &'static str,
    /// What the release must reach, in a second.
    pub goal: Option<f64>,
    /// How it went each time.
    pub runs: Vec<Run>,
}

struct Course {
    name: &'static str,
    mode: &'static str,
    goal: Option<f64>,
    requests: Requests,
}

/// The tokens of `KNOWN` users, exchanged and found again from now on, and the requests to exchange them once more.
async fn known(scene: &Scene, load: &mut Load) -> (Vec<Vec<u8>>, Vec<String>) {
    let requests: Vec<_> = (0..KNOWN).map(|n| scene.exchange(&scene.user(n))).collect();
    let answers = load.answers(&requests).await;
    let token = |answer: Vec<u8>| {
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    (requests, answers.into_iter().map(token).collect())
}

fn again(all: Vec<Vec<u8>>, begins: &'static str) -> Requests {
    Requests { all: Arc::new(all), once: false, begins }
}

/// What there is to measure, the cold exchange first.
async fn courses(scene: &Scene, load: &mut Load) -> Vec<Course> {
    let (exchanges, tokens) = known(scene, load).await;
    let ask = |tool| {
        let asked = tokens.iter().enumerate().map(|(n, token)| scene.evaluation(n, tool, token));
        asked.collect::<Vec<_>>()
    };
    let [(to_token, _), (to_evaluation, _)] = CONSTANT;
    let plain = |requests: &[Vec<u8>], path| {
        again(requests.iter().map(|request| elsewhere(request, path)).collect(), "xxxx")
    };
    let course = |name, goal, requests| Course { name, mode: "Claims", goal, requests };
    let permits = ask("find");
    vec![
        course("exchange, cold", Some(10_000.0), Requests { once: true, ..again(vec![], GIVEN) }),
        course("constant answer, as long as an exchange's", None, plain(&exchanges, to_token)),
        course("exchange, warm", Some(25_000.0), again(exchanges, GIVEN)),
        course("constant answer, as long as an evaluation's", None, plain(&permits, to_evaluation)),
        course("evaluation, permit", Some(80_000.0), again(permits, "{\"decision\":true")),
        course("evaluation, denial", Some(80_000.0), again(ask("erase"), "{\"decision\":false")),
    ]
}

const GIVEN: &str = "{\"access_token\":";

/// All of `courses`, in rounds.
async fn measure(scene: &Scene, load: &mut Load, mut courses: Vec<Course>) -> Vec<Measured> {
    let mut runs: Vec<Vec<Run>> = courses.iter().map(|_| vec![]).collect();
    for round in 0..ROUNDS {
        for (course, runs) in courses.iter_mut().zip(&mut runs) {
            if course.requests.once {
                let fresh = (0..FRESH).map(|n| scene.exchange(&scene.user(n)));
                course.requests.all = Arc::new(fresh.collect());
            }
            let run = load.run(&course.requests, TIME).await;
            eprintln!(
                "round {round}: {}: {:.0}/s, {:.1} us of a core each",
                course.name,
                run.rate(),
                run.cost()
            );
            runs.extend((round > 0).then_some(run));
        }
    }
    let all = courses.into_iter().zip(runs);
    all.map(|(Course { name, mode, goal, .. }, runs)| Measured { name, mode, goal, runs }).collect()
}

/// Measures all, and prints it.
pub(super) fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let idp = key();
        let scene = Scene::new(&idp);
        // Something for a profiler to look at: `drive exchange` measures only what has this in its name.
        let wanted = env::args().nth(2).unwrap_or_default();
        let mut measured = vec![];
        for mode in ["Claims", "Kubernetes"] {
            let server = Server::start(&idp, mode);
            let mut load = Load::connect(&server, CONNECTIONS).await;
            let mut courses = courses(&scene, &mut load).await;
            courses.retain(|course| course.name.contains(&wanted));
            if mode == "Kubernetes" {
                courses.retain(|course| course.name.contains("warm") || course.name.contains("permit"));
                courses.iter_mut().for_each(|course| (course.mode, course.goal) = (mode, None));
            }
            measured.extend(measure(&scene, &mut load, courses).await);
        }
        if wanted.is_empty() {
            table::print(&measured, &append::measured(), &parts::measured(&idp).await);
        }
    });
}
