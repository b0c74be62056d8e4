use super::*;

fn read(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/srv/tipstaff.toml"), text).map_err(|error| error.to_string())
}

fn refused(text: &str, part: &str) {
    let error = read(&format!("trust_domain = \"acme.example\"\n{text}")).unwrap_err();
    assert!(error.contains(part), "{error}");
}

#[test]
fn a_small_file_gets_the_defaults() {
    let config = read("trust_domain = \"acme.example\"").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7420");
    assert_eq!(config.data, Path::new("/srv/data"));
    assert_eq!(config.environment, Environment::Development);
    assert!(config.upstreams.is_empty());
}

#[test]
fn a_wrong_type_is_told_in_words_of_toml() {
    refused(
        "[upstream.a]\ncommand = \"npx x\"",
        "expected a list, `[…]`",
    );
    refused("ledger = 1", "integer `1`, expected a table");
    refused("upstream = 1", "expected a table");
    refused("[upstream]\na = 1", "expected a table");
}

#[test]
fn an_origin_is_what_a_browser_says() {
    for good in [
        "https://app.acme.example",
        "http://127.0.0.1:3000",
        "vscode-webview://a1",
    ] {
        let text = format!("trust_domain = \"a\"\nallowed_origins = [\"{good}\"]");
        assert_eq!(read(&text).unwrap().allowed_origins, [good]);
    }
    for bad in [
        "app.acme.example",
        "https://app.acme.example/",
        "https://*.acme.example",
        "null",
        "://",
        "",
    ] {
        refused(&format!("allowed_origins = [\"{bad}\"]"), "is no origin");
    }
}

#[test]
fn upstreams_are_stdio_or_http() {
    let config = read(
        "trust_domain = \"a\"\n[upstream.files]\ncommand = [\"npx\", \"x\"]\nenv = { K = \
         \"env:NAME\" }\n[upstream.web]\nurl = \"http://127.0.0.1:1/mcp\"\nmode = \"observe\"\n\
         observe_until = \"2026-12-31\"",
    )
    .unwrap();
    let files = &config.upstreams[&"files".parse().unwrap()];
    assert_eq!(
        files.grant.env,
        [("K".to_owned(), Reference::Env("NAME".into()))]
    );
    let web = &config.upstreams[&"web".parse().unwrap()];
    assert_eq!(web.observe_until, Some("2026-12-31".parse().unwrap()));
}

const WITNESS: &str = "w.example+3e6d1c1c+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

#[test]
fn anchors_are_paths_endpoints_or_witnesses() {
    let config = read(
        "trust_domain = \"a\"\n[ledger]\nanchor = [\"../elsewhere\", \"http://127.0.0.1:9/cp\", \
         \"witness:http://127.0.0.1:9 WITNESS\", \"path:a://b\"]"
            .replace("WITNESS", WITNESS)
            .as_str(),
    )
    .unwrap();
    assert_eq!(
        config.ledger.anchors,
        [
            Anchor::Path("/srv/../elsewhere".into()),
            Anchor::Http("http://127.0.0.1:9/cp".into()),
            Anchor::Witness {
                url: "http://127.0.0.1:9".into(),
                key: Box::new(WITNESS.parse().unwrap()),
            },
            Anchor::Path("/srv/a://b".into()),
        ]
    );
}

#[test]
fn an_anchor_that_takes_no_checkpoints_is_refused_where_it_stands() {
    let check = |anchor: &str, why: &str| {
        let text = format!("\n[ledger]\nanchor = \"{anchor}\"");
        refused(&text, "line 4, column 10: `ledger.anchor`: ");
        refused(&text, why);
        let text = format!("[ledger]\nanchor = [\"kept\", \"{anchor}\"]");
        refused(&text, why);
    };
    check("ftp://x", "`ftp://x`; an anchor is a folder's path");
    check("http://", "an anchor is a folder's path");
    check("https://a b", "an anchor is a folder's path");
    check("", "is empty");
    check(
        "witness:http://x",
        "a witness is written `witness:URL VKEY`",
    );
    let to = |url: &str, key: &str| format!("witness:{url} {key}");
    check(&to("ftp://x", WITNESS), "does not start with https://");
    check(
        &to("http://x", "w+1+k"),
        "`w+1+k` is not a witness's verifier key",
    );
    let wrong = WITNESS.replace("w.example", "v.example");
    check(&to("http://x", &wrong), "the key's hash is");
    let signs = note::Signer::from_seed("w", &[1; 32]).unwrap();
    let signs = signs.verifier().to_string();
    check(&to("http://x", &signs), "signs notes and cosigns nothing");
}

#[test]
fn mistakes_are_named() {
    refused("lisetn = \"x\"", "line 2, column 1: unknown field `lisetn`");
    refused("lisetn = \"x\"", "did you mean `listen`?");
    refused("listen = \"7420\"", "`listen`: `7420` is not ADDRESS:PORT");
    refused("[upstream.a]", "needs `command` (stdio) or `url` (HTTP)");
    refused(
        "[upstream.A]\nurl = \"http://x\"",
        "`upstream.A`: an upstream's name may not hold 'A'",
    );
    refused("[upstream.a]\ncomand = [\"x\"]", "did you mean `command`?");
    refused(
        "[upstream.a]\ncommand = [\"x\"]\nurl = \"http://x\"",
        "keep one",
    );
    refused(
        "[upstream.a]\ncommand = [\"x\"]\nmode = \"observe\"",
        "observe mode needs an end",
    );
    refused(
        "[upstream.a]\ncommand = [\"x\"]\nenv = { K = \"hunter2\" }",
        "never written here",
    );
    for wrong in [
        "ftp://x",
        "https://",
        "https://x/gate",
        "https://x/gate/",
        "https://x?y",
        "https://x#y",
        "https://y@x",
        "x",
    ] {
        let told = format!("`public_url`: `{wrong}`: a public URL is");
        refused(&format!("public_url = \"{wrong}\""), &told);
    }
    refused("public_url = \"https://x/y\"", "write it like `https://");
    refused(
        "[upstream.a]\nurl = \"http://x\"\ntimeout_s = 0",
        "must be at least 1",
    );
}

#[test]
fn a_quorum_is_of_the_witnesses_among_the_anchors() {
    let parse = |ledger: &str| {
        let text = format!("trust_domain = \"acme.example\"\n[ledger]\n{ledger}");
        Config::parse(Path::new("tipstaff.toml"), &text)
    };
    let anchor = format!("anchor = [\"/mnt/x\", \"witness:https://w.example {WITNESS}\"]");
    let quorum = parse(&format!("{anchor}\nquorum = 1"))
        .unwrap()
        .ledger
        .quorum;
    assert_eq!(quorum.map(|quorum| quorum.needed()), Some(1));
    assert_eq!(parse(&anchor).unwrap().ledger.quorum, None);
    let more = parse(&format!("{anchor}\nquorum = 2"))
        .unwrap_err()
        .to_string();
    assert!(
        more.contains("`ledger.quorum`") && more.contains("1 are named"),
        "{more}"
    );
    assert!(parse("quorum = 1").is_err());
    assert!(parse("quorum = -1").is_err());
}

#[test]
fn a_webhook_is_signed_and_goes_over_tls_or_stays_here() {
    for good in [
        "https://hooks.acme.example/a?b=c",
        "http://127.0.0.1:8080/",
        "http://localhost/",
        "http://[::1]:1/",
    ] {
        let text = format!(
            "trust_domain = \"a\"\n[approvals]\nwebhook = \"{good}\"\nwebhook_secret = \"env:S\""
        );
        let webhook = read(&text).unwrap().approvals.webhook.unwrap();
        assert_eq!(webhook.url.as_str(), good);
    }
    for (keys, part) in [
        ("webhook = \"https://a.example\"", "needs `webhook_secret`"),
        ("lasts_minutes = 0", "must be from 1 to 1440"),
        ("lasts_minutes = 1441", "must be from 1 to 1440"),
        ("pending_per_instance = 0", "must be from 1 to 64"),
        ("pending_per_instance = 65", "must be from 1 to 64"),
        ("webhook_secret = \"env:S\"", "belongs to `webhook`"),
        (
            "webhook = \"http://hooks.acme.example\"\nwebhook_secret = \"env:S\"",
            "is not https",
        ),
        (
            "webhook = \"https://me:pw@a.example\"\nwebhook_secret = \"env:S\"",
            "without user",
        ),
        (
            "webhook = \"https://a.example\"\nwebhook_secret = \"plain:whsec_x\"",
            "never `plain:`",
        ),
        (
            "webhook = \"https://a.example\"\nwebhook_secret = \"whsec_x\"",
            "a value is a reference",
        ),
        ("webhok = \"https://a.example\"", "did you mean `webhook`"),
    ] {
        refused(&format!("[approvals]\n{keys}"), part);
    }
}

const OAUTH: &str = "token_url = \"https://idp.example/token\"\nclient_id = \"gate\"\n\
                     client_secret = \"vault:acme\"\n";

#[test]
fn an_upstream_may_have_a_token_endpoint() {
    let config = read(&format!(
        "trust_domain = \"a\"\n[upstream.web]\nurl = \"https://x/mcp\"\nheaders = {{ X-Key = \
         \"vault:key\" }}\n[upstream.web.oauth]\n{OAUTH}"
    ))
    .unwrap();
    let web = &config.upstreams[&"web".parse().unwrap()];
    let keys: Vec<_> = web.references().map(|(key, _)| key).collect();
    assert_eq!(keys, ["headers.x-key", "oauth.client_secret"]);
    assert_eq!(web.oauth.as_ref().unwrap().client_auth, ClientAuth::Basic);
    for here in ["localhost:1", "127.0.0.1:1", "[::1]:1"] {
        let text = OAUTH.replace("https://idp.example", &format!("http://{here}"));
        let text = format!(
            "trust_domain = \"a\"\n[upstream.web]\nurl = \"https://x/mcp\"\n[upstream.web.oauth]\n{text}"
        );
        read(&text).unwrap();
    }
}

#[test]
fn mistakes_of_a_token_endpoint_are_named() {
    let with = |line: &str, part: &str| {
        let key = line.split(' ').next().unwrap();
        let rest = OAUTH.lines().filter(|it| !it.starts_with(key));
        let rest: Vec<_> = rest.collect();
        let rest = rest.join("\n");
        refused(
            &format!("[upstream.a]\nurl = \"https://x\"\n[upstream.a.oauth]\n{rest}\n{line}"),
            part,
        );
    };
    with(
        "token_url = \"http://idp.example/\"",
        "`upstream.a.oauth.token_url`",
    );
    with("token_url = \"http://idp.example/\"", "is not https");
    with("token_url = \"https://u:p@idp.example/\"", "without user");
    with("client_id = \"\"", "`upstream.a.oauth.client_id`");
    with("client_id = \"a\\nb\"", "visible ASCII");
    with("client_secret = \"hunter2\"", "never written here");
    with("client_secret = \"plain:hunter2\"", "not `plain:`");
    with("scope = \"\"", "is no scope");
    with("scope = \"a  b\"", "is no scope");
    with("scope = \"a\\\"b\"", "is no scope");
    with("client_auth = \"none\"", "unknown variant `none`");
    with("grant_type = \"password\"", "unknown field `grant_type`");
    with("client_secret_ = \"x\"", "did you mean `client_secret`?");
    refused(
        &format!("[upstream.a]\ncommand = [\"x\"]\n[upstream.a.oauth]\n{OAUTH}"),
        "belong to `url`",
    );
    refused(
        &format!(
            "[upstream.a]\nurl = \"https://x\"\nheaders = {{ authorization = \"vault:x\" }}\n\
             [upstream.a.oauth]\n{OAUTH}"
        ),
        "keep one of the two",
    );
}

//= https://www.rfc-editor.org/rfc/rfc8707#section-2
//= type=test
//# The URI MUST NOT include a fragment component.
#[test]
fn a_resource_is_an_absolute_uri_without_fragment() {
    let with = |resource: &str| {
        read(&format!(
            "trust_domain = \"a\"\n[upstream.a]\nurl = \"https://x\"\n[upstream.a.oauth]\n{OAUTH}\
             resource = \"{resource}\""
        ))
    };
    for right in ["https://a.example/mcp?x=1", "urn:a:b", "api://gate"] {
        with(right).unwrap();
    }
    for wrong in [
        "https://a.example/#x",
        "#",
        "/mcp",
        "a.example",
        "1a:x",
        "a b:c",
        "a:",
        "",
    ] {
        let error = with(wrong).unwrap_err();
        assert!(error.contains("no absolute URI"), "{wrong}: {error}");
    }
}

#[test]
fn another_way_to_an_upstream_is_another_table() {
    let table = |text: &str| {
        let text = format!("trust_domain = \"a\"\n{text}");
        let config = read(&text).unwrap();
        config.upstreams.values().next().unwrap().table
    };
    let http = "[upstream.a]\nurl = \"https://a.example/mcp\"\ntimeout_s = 30\n\
                headers = { X-Key = \"env:KEY\" }\n";
    let child = "[upstream.a]\ncommand = [\"serve\", \"--root\", \"/srv\"]\ncwd = \"work\"\n\
                 env = { KEY = \"vault:key\" }\n";
    for (text, from, to) in [
        (http, "https://a.example", "https://b.example"),
        (http, "https://a.example", "http://a.example"),
        (http, "env:KEY", "env:OTHER"),
        (http, "X-Key", "X-Other"),
        (http, "timeout_s = 30", "undeclared_arguments = \"allow\""),
        (http, "[upstream.a]", "[upstream.a]\nlabels = [\"outside\"]"),
        (child, "\"serve\"", "\"other\""),
        (child, "\"/srv\"", "\"/\""),
        (child, "cwd = \"work\"\n", ""),
        (child, "vault:key", "file:key"),
        (child, "KEY = ", "OTHER = "),
        (child, "[upstream.a]", "[upstream.a]\nconfine = \"off\""),
    ] {
        let other = text.replace(from, to);
        assert_ne!(table(text), table(&other), "{other}");
    }
    let oauth = format!(
        "[upstream.a]\nurl = \"https://x\"\n[upstream.a.oauth]\n{OAUTH}resource = \"urn:a:b\""
    );
    let other = oauth.replace("urn:a:b", "urn:a:c");
    assert_ne!(table(&oauth), table(&other));
    let service = |url: &str| {
        table(&format!(
            "[service.a]\nactions = \"a.json\"\nurl = \"https://{url}.example/api\""
        ))
    };
    assert_ne!(service("a"), service("b"));
    // What says the same is the same, and so is what other tables say.
    for same in [
        http.replace(" = ", "  =  "),
        format!("# a comment\n{http}"),
        format!("{http}[upstream.b]\nurl = \"https://b.example\"\n"),
        format!("{http}[approvals]\nlasts_minutes = 5\n"),
    ] {
        assert_eq!(table(http), table(&same), "{same}");
    }
}

#[test]
fn a_secret_server_is_asked_as_one_and_named_where_upstreams_are_reached() {
    const BAO: &str = "[openbao.main]\naddress = \"https://bao\"\ntoken = \"env:T\"\n";
    const WEB: &str = "[upstream.web]\nurl = \"https://x/mcp\"\n";
    const HEADER: &str = "headers = { X-Key = \"Key {openbao:main/secret/data/a#key}\" }\n";
    let config = read(&format!("trust_domain = \"a\"\n{WEB}{HEADER}{BAO}")).unwrap();
    let references = crate::secrets::references(&config);
    let keys: Vec<_> = references.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["openbao.main.token", "upstream.web.headers.x-key"]);
    let bad = |lines: &str, part: &str| refused(lines, part);
    bad(
        &format!("{WEB}{HEADER}"),
        "there is no table `[openbao.main]`",
    );
    for (reference, part) in [
        ("openbao:main/secret/data/a", "NAME/PATH#FIELD"),
        ("openbao:main#key", "NAME/PATH#FIELD"),
        ("openbao:main/secret/../sys/seal#key", "NAME/PATH#FIELD"),
        ("openbao:main/secret/%2e%2e/sys#key", "NAME/PATH#FIELD"),
        ("openbao:main/secret?list=true#key", "NAME/PATH#FIELD"),
    ] {
        bad(
            &format!("{WEB}headers = {{ X-Key = \"{reference}\" }}\n{BAO}"),
            part,
        );
    }
    let server = |lines: &str, part: &str| bad(&format!("[openbao.main]\n{lines}"), part);
    let address = "address = \"https://bao\"\n";
    server("token = \"env:T\"", "address");
    server(address, "one of `token`, `approle` and `kubernetes`");
    server(
        &format!("{address}token = \"env:T\"\nkubernetes = {{ role = \"a\", jwt = \"env:J\" }}\n"),
        "one of `token`, `approle` and `kubernetes`",
    );
    server(
        "address = \"http://bao\"\ntoken = \"env:T\"",
        "`openbao.main.address`",
    );
    server(
        "address = \"https://bao/?a=b\"\ntoken = \"env:T\"",
        "`openbao.main.address`",
    );
    for secret in ["plain:t", "openbao:main/a#b", "hvs.s3cr3t"] {
        server(
            &format!("{address}token = \"{secret}\""),
            "`openbao.main.token`",
        );
    }
    server(
        &format!("{address}token = \"env:T\"\nnamespace = \"a b\""),
        "`openbao.main.namespace`",
    );
    server(
        &format!(
            "{address}approle = {{ role_id = \"a\", secret_id = \"env:S\", mount = \"../a\" }}"
        ),
        "`openbao.main.approle.mount`",
    );
    bad(
        "[upstream.a]\ncommand = [\"x\"]\nshared = true\nleases = \"instance\"",
        "leave out `shared`",
    );
    bad(
        &format!(
            "{WEB}[upstream.web.oauth]\ntoken_url = \"https://idp/token\"\nclient_id = \"a\"\n\
             client_secret = \"openbao:main/secret/data/a#key\"\n{BAO}"
        ),
        "`upstream.web.oauth.client_secret`",
    );
    bad(
        &format!(
            "[login]\nissuer = \"https://idp\"\nclient_id = \"a\"\nclient_secret = \"openbao:main/secret/data/a#key\"\n{BAO}"
        ),
        "client_secret",
    );
}
