//! Submitting photos and reading results.

use rebound_core::codec::client;
use rebound_core::io::{Answer, Read, Request as Asked};
use rebound_core::types::JobId;
use rebound_proto::v1;
use rebound_proto::v1::jobs_server::Jobs;
use tonic::{Request, Response, Status};

use super::{Api, From, draw_trace, unexpected};
use crate::node::Answered;
use crate::store::photos::Fetched;

type Answers<A> = Result<Response<A>, Status>;

impl Api {
    async fn job(&self, from: &From, timeout: u64, job: u64, seen: u64) -> Answers<v1::JobReply> {
        let job = JobId(job);
        let reply = |answered| match answered {
            Answered::Core(Answer::Job(view)) => Ok(v1::JobReply {
                job: Some(client::job(&view)),
            }),
            other => Err(unexpected(&other)),
        };
        self.look(from, timeout, Read::Job { job, seen }, reply).await
    }

    /// A command about a job, answered with the job as it is after it.
    async fn job_after(&self, from: &From, timeout: u64, job: u64, request: Asked) -> Answers<v1::JobReply> {
        self.apply(from, draw_trace(), timeout, request).await?;
        self.after(self.job(from, timeout, job, 0).await)
    }
}

#[tonic::async_trait]
impl Jobs for Api {
    async fn open(&self, request: Request<v1::OpenRequest>) -> Answers<v1::OpenReply> {
        let from = From::read(request.metadata());
        let wire = request.into_inner();
        let timeout = wire.timeout_us;
        let (open, trace) = client::open(wire).map_err(|rejected| self.rejected(rejected))?;
        let trace = trace.unwrap_or_else(draw_trace);
        let (reply, placeable, outlook) = self
            .apply(&from, trace, timeout, Asked::Open(Box::new(open)))
            .await?;
        let opened = client::opened(&reply, placeable, outlook);
        opened
            .map(Response::new)
            .ok_or_else(|| Status::internal("an open was answered with something else"))
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Answers<v1::AppendReply> {
        let from = From::read(request.metadata());
        let v1::AppendRequest {
            timeout_us,
            job,
            offset,
            photos,
        } = request.into_inner();
        let asked = Asked::Append {
            job: JobId(job),
            offset,
            photos: client::photos(&photos),
        };
        match self.apply(&from, draw_trace(), timeout_us, asked).await?.0 {
            rebound_core::reply::Reply::Appended { next_offset } => {
                Ok(Response::new(v1::AppendReply { next_offset }))
            }
            _ => Err(Status::internal("an append was answered with something else")),
        }
    }

    async fn close(&self, request: Request<v1::CloseRequest>) -> Answers<v1::JobReply> {
        let from = From::read(request.metadata());
        let v1::CloseRequest {
            timeout_us,
            job,
            total,
        } = request.into_inner();
        self.job_after(
            &from,
            timeout_us,
            job,
            Asked::Close {
                job: JobId(job),
                total,
            },
        )
        .await
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answers<v1::JobReply> {
        let from = From::read(request.metadata());
        let v1::CancelRequest { timeout_us, job } = request.into_inner();
        self.job_after(&from, timeout_us, job, Asked::Cancel { job: JobId(job) })
            .await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Answers<v1::JobReply> {
        let from = From::read(request.metadata());
        let v1::GetRequest { timeout_us, job } = request.into_inner();
        self.job(&from, timeout_us, job, 0).await
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answers<v1::JobReply> {
        let from = From::read(request.metadata());
        let v1::WatchRequest {
            timeout_us,
            job,
            seen,
        } = request.into_inner();
        self.job(&from, timeout_us, job, seen).await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answers<v1::ListReply> {
        let from = From::read(request.metadata());
        let v1::ListRequest {
            timeout_us,
            before,
            limit,
        } = request.into_inner();
        let before = JobId(before);
        let reply = |answered| match answered {
            Answered::Core(Answer::Jobs { jobs, next }) => Ok(v1::ListReply {
                jobs: jobs.iter().map(client::job).collect(),
                next: next.map_or(0, |job| job.0),
            }),
            other => Err(unexpected(&other)),
        };
        self.look(&from, timeout_us, Read::Jobs { before, limit }, reply)
            .await
    }

    async fn results(&self, request: Request<v1::ResultsRequest>) -> Answers<v1::ResultsReply> {
        let from = From::read(request.metadata());
        let v1::ResultsRequest {
            timeout_us,
            job,
            first,
            limit,
        } = request.into_inner();
        let job = JobId(job);
        let reply = |answered| match answered {
            Answered::Fetched(Fetched::Results { results, next }) => {
                let results = results.into_iter();
                let results = results.map(|(task, uri, record)| client::result(task, uri, record));
                Ok(v1::ResultsReply {
                    results: results.collect(),
                    next: next.unwrap_or(0),
                })
            }
            other => Err(unexpected(&other)),
        };
        let read = Read::Results { job, first, limit };
        self.look(&from, timeout_us, read, reply).await
    }

    async fn task(&self, request: Request<v1::TaskRequest>) -> Answers<v1::TaskReply> {
        let from = From::read(request.metadata());
        let v1::TaskRequest {
            timeout_us,
            job,
            task,
        } = request.into_inner();
        let job = JobId(job);
        let reply = |answered| match answered {
            Answered::Fetched(Fetched::Task {
                view,
                uri,
                record,
                attempts,
            }) => Ok(client::task(&view, uri, record, attempts)),
            other => Err(unexpected(&other)),
        };
        self.look(&from, timeout_us, Read::Task { job, task }, reply)
            .await
    }
}
