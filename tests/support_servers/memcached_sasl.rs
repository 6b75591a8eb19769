//! What a memcached with SASL needs beside itself, and what it says in the binary protocol, which is all that it speaks.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::process::installed;

/// Where Debian has the mechanisms of SASL, under the name of the machine's architecture.
const LIBRARIES: &str = "/usr/lib";

/// Where the program is that makes users, which is not on everybody's `PATH`.
const SASLPASSWD: &str = "/usr/sbin/saslpasswd2";

/// What is missing on this machine, if something is.
pub(super) fn missing() -> Option<&'static str> {
    if !(installed("saslpasswd2") || Path::new(SASLPASSWD).is_file()) {
        return Some("saslpasswd2 is missing; on Debian: apt-get install sasl2-bin");
    }
    let libraries = fs::read_dir(LIBRARIES).into_iter().flatten().flatten();
    let has_plain = |folder: PathBuf| folder.join("sasl2/libplain.so").exists();
    // Elsewhere it is somewhere else, and memcached says so.
    let is_debian = Path::new("/etc/debian_version").exists();
    match is_debian && !libraries.map(|it| it.path()).any(has_plain) {
        true => Some("SASL PLAIN is missing; on Debian: apt-get install libsasl2-modules"),
        false => None,
    }
}

/// Says in `folder`, as memcached finds it by `SASL_CONF_PATH`, who may ask and by which mechanisms.
pub(super) fn configure(folder: &Path, mechanisms: &str, user: &str, password: &str) {
    let database = database(folder);
    let configuration = format!(
        "mech_list: {mechanisms}\nsasldb_path: {}\n",
        database.display()
    );
    fs::write(folder.join("memcached.conf"), configuration).unwrap();
    set_password(folder, user, password);
}

/// Gives the user this password, for whoever connects from now on.
pub(super) fn set_password(folder: &Path, user: &str, password: &str) {
    let program = match installed("saslpasswd2") {
        true => "saslpasswd2",
        false => SASLPASSWD,
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut saslpasswd = Command::new(program)
        .args(["-p", "-c", "-a", "memcached", "-u", host.trim(), "-f"])
        .arg(database(folder))
        .arg(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = saslpasswd.stdin.take().unwrap();
    input.write_all(format!("{password}\n").as_bytes()).unwrap();
    drop(input);
    assert!(saslpasswd.wait().unwrap().success());
}

fn database(folder: &Path) -> PathBuf {
    folder.join("sasldb2")
}

/// Everything that the server says of itself, as lines of the text protocol have it.
pub(super) fn stats(mut stream: impl Read + Write, user: &str, password: &str) -> String {
    let identity = format!("\0{user}\0{password}");
    let asked = [
        message(0x21, b"PLAIN", identity.as_bytes()),
        message(0x10, b"", b""),
    ];
    stream.write_all(&asked.concat()).unwrap();
    let (status, ..) = answer(&mut stream);
    assert_eq!(status, 0, "it does not know the user");
    let mut lines = String::new();
    loop {
        let (_, name, value) = answer(&mut stream);
        if name.is_empty() {
            return lines;
        }
        lines += &format!("STAT {name} {value}\r\n");
    }
}

fn message(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 24];
    (message[0], message[1]) = (0x80, opcode);
    message[2..4].copy_from_slice(&(key.len() as u16).to_be_bytes());
    message[8..12].copy_from_slice(&((key.len() + value.len()) as u32).to_be_bytes());
    message.extend([key, value].concat());
    message
}

/// Its status, key and value.
fn answer(stream: &mut impl Read) -> (u16, String, String) {
    let mut head = [0; 24];
    stream.read_exact(&mut head).unwrap();
    let key = u16::from_be_bytes([head[2], head[3]]);
    let status = u16::from_be_bytes([head[6], head[7]]);
    let len = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (key, value) = body.split_at(key.into());
    (status, text(key), text(value))
}
