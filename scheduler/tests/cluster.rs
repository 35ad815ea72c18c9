//! Three servers in one process, over real sockets and real directories: a leader and a follower stop and come back,
//! one of them so late that only a snapshot helps, and nothing that was acknowledged is lost.

mod support;

use rebound_core::io::Request;
use rebound_core::kept::ResultsRecord;
use rebound_core::key::{Kept, kept_prefix};
use rebound_core::limits::{
    APPEND_BYTES_MAX, APPEND_PHOTOS_MAX, DIGEST_EVERY, RESULT_BYTES_MAX, URI_BYTES_MAX,
};
use rebound_core::table::decode;
use rebound_core::types::{Caller, EnvId, JobId, TraceId};
use rebound_proto::v1;
use rebound_proto::v1::refusal::Kind;
use rebound_scheduler::offline::OfflineStore;
use tonic::Code;

use support::agent::Agent;
use support::{Cluster, refusal, runtime, within};

#[test]
fn three_servers_lose_nothing() {
    runtime().block_on(async {
        let mut cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let agent = Agent::start(cluster.addresses());
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(cluster.submit(12).await);
        }
        jobs.push(cluster.submit_in_parts(&[5, 7, 1]).await);
        cluster.finish(&jobs).await;

        // A follower stops; so much happens meanwhile that its log cannot be continued.
        let late = (leader + 1) % 3;
        let applied_before = cluster.standing(late).status.applied;
        cluster.stop(late).await;
        for _ in 0..20 {
            jobs.push(cluster.submit(3).await);
        }
        cluster.finish(&jobs).await;
        let first = cluster.standing(leader).status.first;
        assert!(
            first > applied_before + 1,
            "the log still begins at {first}: no snapshot is needed"
        );
        cluster.restart(late).await;
        cluster.converge().await;

        // The leader stops; the others go on, and it comes back.
        let old = cluster.leader().await;
        cluster.stop(old).await;
        let new = cluster.leader().await;
        assert_ne!(new, old);
        jobs.push(cluster.submit(12).await);
        cluster.finish(&jobs).await;
        cluster.restart(old).await;
        cluster.converge().await;

        let results = cluster.all_results(&jobs).await;
        agent.stop().await;
        cluster.converge().await;
        let (_dir, dirs) = cluster.stop_all().await;
        check_disks(&dirs, &jobs, results);
    });
}

#[test]
fn servers_compare_their_states_as_they_run() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let by = Caller {
            environment: "default".into(),
            actor: "test".into(),
        };
        let count = |_| {
            cluster
                .handle(leader)
                .ask(by.clone(), TraceId::default(), 0, Request::Count)
        };
        // All servers of this test write into one set of figures.
        let compared = |figures: &str, result: &str, server: u64| {
            let words = [format!("result=\"{result}\""), format!("server=\"{server}\"")];
            figures
                .lines()
                .filter(|line| line.starts_with("rebound_digests_compared_total{"))
                .any(|line| words.iter().all(|word| line.contains(word)))
        };
        within("each server to be compared by another one", async {
            loop {
                // So much that digests are noted; and again, where a snapshot has carried a server past that entry.
                let enough = cluster.standing(leader).status.applied + DIGEST_EVERY;
                while cluster.standing(leader).status.applied < enough {
                    futures_util::future::join_all((0..100).map(count)).await;
                }
                let (_, figures) = cluster.http(leader, "/metrics").await;
                assert!((1..=3).all(|server| !compared(&figures, "different", server)));
                if (1..=3).all(|server| compared(&figures, "same", server)) {
                    return;
                }
            }
        })
        .await;
        let mut operator = cluster.operator(leader).await;
        let status = operator.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert!(status.differs_from.is_empty());
        cluster.stop_all().await;
    });
}

/// All three directories hold the same, and each acknowledged result.
fn check_disks(dirs: &[std::path::PathBuf], jobs: &[(u64, u64)], results: Vec<(u64, v1::TaskResult)>) {
    let stores: Vec<OfflineStore> = dirs.iter().map(|dir| OfflineStore::open(dir).unwrap()).collect();
    let all = |store: &OfflineStore| {
        let kept: Vec<_> = store.kept_iter(&[]).map(Result::unwrap).collect();
        let state: Vec<_> = store.state_pairs().map(Result::unwrap).collect();
        (kept, state)
    };
    let first = all(&stores[0]);
    assert!(stores.iter().all(|store| all(store) == first), "the disks differ");
    let state = stores[0].state().unwrap();
    state.check();
    let env = state.environments.find("default").unwrap();
    for (job, tasks) in jobs {
        let found: u64 = stores[0]
            .kept_iter(&kept_prefix(Kept::Results, env, JobId(*job)))
            .map(|record| decode::<ResultsRecord>(&record.unwrap().1).unwrap().rows.len())
            .sum();
        assert_eq!(found, *tasks, "results of job {job}");
    }
    assert_eq!(
        results.len() as u64,
        jobs.iter().map(|(_, tasks)| tasks).sum::<u64>()
    );
    let wholes = stores.iter().filter(|store| {
        let entries: Vec<u64> = store.log_entries().map(|entry| entry.unwrap().0).collect();
        entries.iter().copied().eq(1..=entries.len() as u64)
    });
    assert_eq!(
        wholes.count(),
        2,
        "the archive of those that needed no snapshot is whole"
    );
    assert_ne!(env, EnvId(0));
}

#[test]
fn refusals_are_typed() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;

        let mut jobs = cluster.jobs(follower).await;
        let status = jobs.get(v1::GetRequest::default()).await.unwrap_err();
        let refused = refusal(&status);
        assert_eq!(
            (status.code(), refused.kind()),
            (Code::FailedPrecondition, Kind::NotLeader)
        );
        assert_eq!(refused.leader, cluster.addresses()[leader]);

        let mut jobs = cluster.jobs(leader).await;
        let status = jobs
            .get(v1::GetRequest {
                job: 4_711,
                timeout_us: 0,
            })
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), refusal(&status).kind()),
            (Code::NotFound, Kind::NotFound)
        );

        let mut bad = support::open_request(1);
        bad.spec.as_mut().unwrap().priority = 101;
        let status = jobs.open(bad).await.unwrap_err();
        assert_eq!(
            (status.code(), refusal(&status).field.as_str()),
            (Code::InvalidArgument, "spec.priority")
        );

        let key = v1::OpenRequest {
            idempotency_key: b"k".to_vec().into(),
            ..support::open_request(2)
        };
        let first = jobs.open(key.clone()).await.unwrap().into_inner();
        let again = jobs.open(key.clone()).await.unwrap().into_inner();
        assert_eq!(
            (again.job, again.repeated, first.repeated),
            (first.job, true, false)
        );
        assert!(!first.placeable, "no worker is here");
        let other = v1::OpenRequest {
            photos: support::photos(3),
            ..key
        };
        let status = jobs.open(other).await.unwrap_err();
        assert_eq!(
            (status.code(), refusal(&status).kind()),
            (Code::Aborted, Kind::Conflict)
        );

        let open = v1::OpenRequest {
            close: false,
            ..support::open_request(2)
        };
        let job = jobs.open(open).await.unwrap().into_inner().job;
        let gap = v1::AppendRequest {
            job,
            offset: 5,
            photos: support::photos(1),
            timeout_us: 0,
        };
        let status = jobs.append(gap).await.unwrap_err();
        let refused = refusal(&status);
        assert_eq!((refused.field.as_str(), refused.expected_offset), ("offset", 2));

        let watch = v1::WatchRequest {
            timeout_us: 50_000,
            job,
            seen: u64::MAX,
        };
        let watched = jobs.watch(watch).await.unwrap().into_inner().job.unwrap();
        assert_eq!(
            (watched.id, watched.tasks),
            (job, 2),
            "a watch ends at its limit with what there is"
        );

        let (mut operator, mut counts) = (cluster.operator(leader).await, Vec::new());
        for _ in 0..3 {
            counts.push(
                operator
                    .ping(v1::PingRequest::default())
                    .await
                    .unwrap()
                    .into_inner()
                    .count,
            );
        }
        assert_eq!(counts, [1, 2, 3]);
        cluster.stop_all().await;
    });
}

/// Each limit at the limit and one over.
#[test]
fn limits_hold_through_three_servers() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(cluster.addresses());
        let mut jobs = cluster.jobs(cluster.leader().await).await;
        let photo = |length: usize| v1::Photo {
            uri: format!("{:x<length$}", "file:///"),
        };
        let open = |photos| v1::OpenRequest {
            photos,
            close: false,
            ..support::open_request(0)
        };
        for (photos, over) in [
            (
                vec![photo(10); APPEND_PHOTOS_MAX],
                vec![photo(10); APPEND_PHOTOS_MAX + 1],
            ),
            (vec![photo(URI_BYTES_MAX)], vec![photo(URI_BYTES_MAX + 1)]),
            (
                vec![photo(1024); APPEND_BYTES_MAX / 1024],
                vec![photo(1024); APPEND_BYTES_MAX / 1024 + 1],
            ),
        ] {
            let count = photos.len() as u64;
            assert_eq!(
                jobs.open(open(photos)).await.unwrap().into_inner().next_offset,
                count
            );
            let status = jobs.open(open(over)).await.unwrap_err();
            assert_eq!(
                (status.code(), refusal(&status).kind()),
                (Code::InvalidArgument, Kind::Rejected)
            );
        }
        let status = jobs.open(open(vec![photo(1024); 2_000])).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");

        let results = [RESULT_BYTES_MAX, RESULT_BYTES_MAX + 1];
        let photos = results
            .map(|bytes| v1::Photo {
                uri: format!("file:///bytes/{bytes}"),
            })
            .to_vec();
        let request = v1::OpenRequest {
            photos,
            ..support::open_request(0)
        };
        let job = jobs.open(request).await.unwrap().into_inner().job;
        let ended = within("the job's end", cluster.watch_to_end(job)).await;
        assert_eq!((ended.succeeded, ended.failed), (1, 1), "{ended:?}");
        let page = v1::ResultsRequest {
            job,
            ..v1::ResultsRequest::default()
        };
        let results = jobs.results(page).await.unwrap().into_inner().results;
        assert_eq!(
            (results[0].outcome(), results[0].output.len()),
            (v1::Outcome::Succeeded, RESULT_BYTES_MAX)
        );
        assert_eq!(
            (results[1].outcome(), results[1].cause()),
            (v1::Outcome::Failed, v1::Cause::ResultTooLarge)
        );
        agent.stop().await;
        cluster.stop_all().await;
    });
}

#[test]
fn health_and_figures_are_served() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let (code, body) = cluster.http(leader, "/healthz").await;
        assert_eq!(code, 200, "{body}");
        assert!(body.contains("\"role\":\"leader\""), "{body}");
        assert_eq!(cluster.http(leader, "/nothing").await.0, 404);
        assert_eq!(cluster.http(leader, "/metrics").await.0, 200);
        cluster.stop_all().await;
    });
}
