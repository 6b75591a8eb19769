//! The MySQL backend on real servers of MariaDB and of MySQL: the suite, and what is special to it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;
mod support_sql;

use larder::{ErrorKind, MySql, MySqlBuilder, sql::Dialect};
use support_servers::{Certificates, MySql as MySqlServer, MySqlOptions, Product};
use support_sql::servers::{Demand, Server, builder, on_server};

builder!(MySqlBuilder, MySql);

impl Server for MySqlServer {
    type Builder = MySqlBuilder;

    const DIALECT: Dialect = Dialect::MySql;
    const BACKEND: &'static str = "mysql";
    const FOREIGN_URL: &'static str = "postgres://user:s3cret@host/db";
    const RIGHTS: &'static str = "CREATE and INDEX on their database";
    const CONNECTIONS: &'static str =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'";

    fn product(&self) -> String {
        self.version()
    }

    fn url_as(&self, credentials: &str) -> String {
        MySqlServer::url_as(self, credentials)
    }

    fn url_of(&self, database: &str) -> String {
        let url = self.url();
        let (server, _) = url.rsplit_once('/').unwrap();
        format!("{server}/{database}")
            .trim_end_matches('/')
            .to_owned()
    }

    fn socket_url(&self) -> String {
        let socket = self.socket();
        format!(
            "mysql://app:s3cret@localhost/cache?socket={}",
            socket.display()
        )
    }

    fn certificates(&self) -> &Certificates {
        MySqlServer::certificates(self)
    }

    fn has_tls(&self) -> bool {
        MySqlServer::product(self) == Product::MySql
    }

    fn kill(&self) {
        MySqlServer::kill(self);
    }

    fn pause(seconds: u32) -> String {
        format!("DO SLEEP({seconds})")
    }

    fn end_connections(&self) {
        MySqlServer::end_connections(self, "app");
    }

    fn run(&self, statements: &str) -> String {
        self.sql(statements)
    }

    fn grant(&self, user: &str, password: &str, rights: &str, tables: &[&str]) {
        self.sql(&format!(
            "CREATE USER {user}@'%' IDENTIFIED BY '{password}'"
        ));
        for table in tables {
            self.sql(&format!("GRANT {rights} ON cache.{table} TO {user}@'%'"));
        }
    }
}

fn with(options: MySqlOptions, demand: Demand) -> Option<MySqlServer> {
    match demand {
        Demand::Password => options,
        Demand::Tls => options.tls(),
        Demand::Certificate => options.mtls(),
    }
    .start()
}

/// What both products do, which a server of another setting could do otherwise.
mod any {
    use super::*;

    /// Statements are as strict as larder needs them, and each is done when it is answered, whatever the server's defaults are.
    pub(crate) async fn what_a_server_is_lenient_about_by_default_is_done_strictly(
        product: Product,
    ) {
        let options = product.with();
        let options = options.setting("--sql-mode=").setting("--autocommit=0");
        let Some(server) = options.start() else {
            return;
        };
        support_sql::tables_that_were_emptied_or_dropped_are_an_empty_cache(&server).await;
        support_sql::what_has_ended_is_removed_and_counted(&server).await;
    }

    /// A statement of many rows is no longer than one of the longest value.
    pub(crate) async fn batches_are_as_long_as_the_server_takes(product: Product) {
        let options = product.with().setting("--max-allowed-packet=1M");
        let Some(server) = options.start() else {
            return;
        };
        support_sql::batches_are_as_long_as_the_database_takes(&server).await;
        support_sql::the_largest_value_is_kept_and_a_larger_one_refused(&server).await;
    }

    pub(crate) async fn the_largest_value_is_kept_and_a_larger_one_refused(product: Product) {
        let Some(server) = product.start() else {
            return;
        };
        support_sql::the_largest_value_is_kept_and_a_larger_one_refused(&server).await;
    }
}

/// The tests of one product.
macro_rules! product {
    ($module:ident, $product:expr) => {
        mod $module {
            use super::*;

            fn start(demand: Demand) -> Option<MySqlServer> {
                with($product.with(), demand)
            }

            on_server!(start);

            product!($product =>
                what_a_server_is_lenient_about_by_default_is_done_strictly
                batches_are_as_long_as_the_server_takes
                the_largest_value_is_kept_and_a_larger_one_refused
            );
        }
    };
    ($product:expr => $($behaviour:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $behaviour() {
            any::$behaviour($product).await;
        })+
    };
}

product!(mariadb, Product::MariaDb);
product!(mysql, Product::MySql);

/// The server asks for the password itself where it does not remember it, which nobody gets who could be anybody.
#[tokio::test]
async fn a_password_of_caching_sha2_goes_by_tls_only() {
    let Some(server) = Product::MySql.start() else {
        return;
    };
    for url in [server.url(), server.socket_url()] {
        let without = MySql::builder(url).connect().await.unwrap_err();
        assert_eq!(without.kind(), ErrorKind::Backend, "{without:?}");
        let text = without.to_string();
        assert!(text.contains("CACHE_MYSQL_TLS=true"), "{text}");
        assert!(text.contains("CACHE_MYSQL_CA_FILE"), "{text}");
    }
    server.open().connect().await.unwrap();
    MySql::builder(server.url()).connect().await.unwrap();
}

/// They are for no host, so that only their authority can be looked at.
#[tokio::test]
async fn certificates_that_a_server_made_itself_are_taken_by_their_authority() {
    let options = Product::MySql.with().own_certificates();
    let Some(server) = options.start() else {
        return;
    };
    let ca = server.folder().join("data/ca.pem").display().to_string();
    let url = server.url();
    let error = MySql::builder(&url).tls(true).ca(&ca).connect().await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("another host"), "{error}");
    let by_authority = MySql::builder(format!("{url}?ssl-mode=verify-ca")).ca(&ca);
    support_sql::keep(&by_authority.connect().await.unwrap(), "key", "value").await;
}

/// `READ COMMITTED` and statements in the log do not go together.
#[tokio::test]
async fn a_log_of_statements_says_so() {
    let options = Product::MariaDb.with().setting("--log-bin=log");
    let Some(server) = options.setting("--binlog-format=STATEMENT").start() else {
        return;
    };
    let backend = server.open().connect().await;
    let error = match backend {
        Ok(backend) => {
            let key = support_sql::key("key");
            let put = larder::PutMode::Always;
            larder::Backend::put(&backend, &key, support_sql::entry("value"), put)
                .await
                .unwrap_err()
        }
        Err(error) => error,
    };
    assert!(error.to_string().contains("binlog_format"), "{error}");
}
