//! The PostgreSQL backend on real servers: the suite, and what is special to it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;
mod support_sql;

use larder::{Postgres, PostgresBuilder, sql::Dialect};
use support_servers::{Certificates, Postgres as PostgresServer};
use support_sql::servers::{Demand, Server, builder, on_server};

builder!(PostgresBuilder, Postgres);

impl Server for PostgresServer {
    type Builder = PostgresBuilder;

    const DIALECT: Dialect = Dialect::Postgres;
    const BACKEND: &'static str = "postgres";
    const FOREIGN_URL: &'static str = "mysql://user:s3cret@host/db";
    const RIGHTS: &'static str = "CREATE on their schema";
    const CONNECTIONS: &'static str =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'larder'";

    fn product(&self) -> String {
        let version = self.sql("SHOW server_version");
        let number = version.split_whitespace().next().unwrap();
        format!("postgres {number}")
    }

    fn url_as(&self, credentials: &str) -> String {
        PostgresServer::url_as(self, credentials)
    }

    fn url_of(&self, database: &str) -> String {
        let url = self.url();
        let (server, _) = url.rsplit_once('/').unwrap();
        format!("{server}/{database}")
    }

    fn socket_url(&self) -> String {
        let folder = self.folder().display().to_string().replace('/', "%2F");
        let port = self.address().port();
        format!("postgres://app:s3cret@{folder}:{port}/postgres")
    }

    fn certificates(&self) -> &Certificates {
        PostgresServer::certificates(self)
    }

    fn has_tls(&self) -> bool {
        false
    }

    fn kill(&self) {
        PostgresServer::kill(self);
    }

    fn pause(seconds: u32) -> String {
        format!("SELECT pg_sleep({seconds})")
    }

    fn end_connections(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder'",
        );
    }

    fn run(&self, statements: &str) -> String {
        self.sql(statements)
    }

    fn grant(&self, user: &str, password: &str, rights: &str, tables: &[&str]) {
        let tables = tables.join(", ");
        self.sql(&format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{password}'; GRANT {rights} ON {tables} TO {user}"
        ));
    }
}

fn start(demand: Demand) -> Option<PostgresServer> {
    let options = PostgresServer::with();
    match demand {
        Demand::Password => options,
        Demand::Tls => options.tls(),
        Demand::Certificate => options.mtls(),
    }
    .start()
}

on_server!(start);
