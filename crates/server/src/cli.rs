//! The command line: its words, their help, and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vocab::{AgentId, InstanceId, PurposePath, SponsorId, UpstreamName};

use crate::policies::ToolsFile;

/// Where the help of every command lists what all of them take.
const EVERYWHERE: &str = "With every command";

/// Stands between AI agents and what they can touch: every call is attributed, decided by policy,
/// recorded before it happens, and refused when any of that cannot be done.
#[derive(Debug, Parser)]
#[command(name = "tipstaff", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = crate::config::FILE_NAME,
          help_heading = EVERYWHERE)]
    pub config: PathBuf,
    /// Print one JSON value instead of text for people; `{"error": …}` where a command fails.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Administer by this named credential instead of as the local user.
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    pub admin_key: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the product: calls allowed, denied and refused, on record and proven, in a minute.
    Demo(Demo),
    /// Write a configuration, a policy folder, keys and log origins into a folder.
    Init(Init),
    /// Run the node.
    Up(Up),
    /// Speak MCP on stdio and carry it to the gateway: what a desktop client's `command` runs.
    Connect(Connect),
    /// Print an access token for a new (or continued) instance, as the token endpoint's JSON answer.
    ///
    /// What goes into `Authorization`, after the `token_type`, is the `access_token` in it.
    Token(Token),
    /// Stop everything, one agent, or one upstream, from the very next call.
    Kill(KillArgs),
    /// Cuts and their certificates: what was stopped, and the proof that it stopped.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Print an address that signs a sponsor in, once, in the browser that opens it: for
    /// development, where no identity provider is configured.
    Login {
        /// The sponsor.
        id: SponsorId,
    },
    /// Sponsors: the named people who answer for agents.
    #[command(subcommand)]
    Sponsor(SponsorCommand),
    /// The directory: its tokens for provisioning people and groups over SCIM.
    #[command(subcommand)]
    Scim(ScimCommand),
    /// Groups of sponsors, as the directory has them.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Agents: registered kinds of agents.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// The keys that sign tokens: list, change, and refuse one that leaked.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The local vault: secrets that `vault:NAME` in the configuration refers to.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// What is looked for in what passes: the rules in force, and having them read again.
    #[command(subcommand)]
    Inspection(InspectionCommand),
    /// Instances: running agents.
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Policies: check, test and activate.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print who, for whom, why, what was decided and what came of it.
    Trace(Trace),
    /// The logs: verify, prove, export, and run decisions again.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Cosign the checkpoints of other people's logs: a C2SP witness.
    ///
    /// It needs no node and no configuration. Run it on another machine than the logs that it
    /// follows, under another administrator: a witness in the same hands notices a log that was
    /// rewritten, and cannot keep those hands from it.
    Witness(Witness),
    /// Check configuration, keys, clock, disk, upstreams, policy, anchors and isolation.
    Doctor,
    /// Administrators by credential, beside local users.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Approvals: calls that policy holds until people approve them.
    #[command(subcommand)]
    Approval(ApprovalCommand),
    /// Break-glass: two named administrators let an agent run for a while although nobody answers
    /// for it.
    #[command(subcommand)]
    BreakGlass(BreakGlassCommand),
    /// Policy enforcement points: services and gateways that may ask for decisions.
    #[command(subcommand)]
    Pep(PepCommand),
    /// What upstreams say of their tools: what was accepted of it, and what is held until a person
    /// accepts it.
    #[command(name = "upstream", subcommand)]
    Tools(UpstreamCommand),
    /// Internal: confine this process, then become the given command.
    #[command(name = "__confine", hide = true)]
    Confine {
        /// Folders to deny, then the command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Internal: start the given command, and leave nothing of it behind.
    #[command(name = "__keep", hide = true)]
    Keep {
        /// Whose child it is, then the command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Internal: the small MCP server that the demonstration uses as its upstream.
    #[command(name = "__upstream", hide = true)]
    Upstream {
        /// A file in which calls that reach the server are counted.
        #[arg(long)]
        count: PathBuf,
    },
}

/// `tipstaff demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Keep the temporary folder and print where it is.
    #[arg(long)]
    pub keep: bool,
}

/// `tipstaff init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder; made if it is not there.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The realm that all names of this node belong to.
    #[arg(long, value_name = "NAME", default_value = "tipstaff.local")]
    pub trust_domain: vocab::TrustDomain,
}

/// `tipstaff up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Listen here instead of where the configuration says; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Write `{"url":"http://…"}` to this file once ready.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// `tipstaff witness`.
#[derive(Debug, Args)]
pub struct Witness {
    /// Its own folder: its key, and what it cosigned. It is locked, and must never be put back from
    /// a copy: a witness that has forgotten signs what it must not.
    #[arg(long, value_name = "DIR", default_value = "witness")]
    pub folder: PathBuf,
    /// What its key is to be called, made at the first run: a URL without scheme, such as
    /// `witness.acme.example/w1`. It keeps that name.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A file with public keys of logs that it follows, such as a node's `data/control.vkey`, one a
    /// line. May be repeated.
    #[arg(long = "log", value_name = "FILE", required = true)]
    pub logs: Vec<PathBuf>,
    /// Listen here; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7421")]
    pub listen: SocketAddr,
    /// Write `{"url":"http://…"}` to this file once ready.
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// How an agent shows who it is.
#[derive(Debug, Args)]
pub struct AgentKeyArgs {
    /// The agent.
    #[arg(long, value_name = "ID")]
    pub agent: AgentId,
    /// The agent's key file, from `tipstaff agent add --key-out`.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Why it acts: an id path at or below one that the agent is registered for.
    #[arg(long, value_name = "ID")]
    pub purpose: PurposePath,
    /// The gateway's URL; by default the running node's, else the one in the key file.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// `tipstaff connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// The upstream.
    pub upstream: UpstreamName,
    /// Who connects.
    #[command(flatten)]
    pub who: AgentKeyArgs,
}

/// `tipstaff token`.
#[derive(Debug, Args)]
pub struct Token {
    /// Who asks.
    #[command(flatten)]
    pub who: AgentKeyArgs,
    /// The upstream that the token is for.
    #[arg(long, value_name = "NAME")]
    pub upstream: UpstreamName,
    /// Ask for a bearer token, for clients that cannot prove possession of a key. The agent must
    /// have been registered with `--allow-bearer`.
    #[arg(long)]
    pub bearer: bool,
    /// The DPoP key file to bind to; made if it is not there. Proving the same key again continues
    /// the same instance. [default: the agent's key file with `.dpop` added to its name]
    #[arg(long, value_name = "FILE", conflicts_with = "bearer")]
    pub dpop_key: Option<PathBuf>,
    /// Go on with this instance, one that another delegated to included: it keeps its bounds. It is
    /// the one that proves the key in `--dpop-key`; if it is over, no other takes its place.
    #[arg(long, value_name = "ID", conflicts_with_all = ["bearer", "from", "once"])]
    pub instance: Option<InstanceId>,
    /// What is handed on, and by whom.
    #[command(flatten)]
    pub handing_on: HandingOn,
}

/// How `tipstaff token` delegates.
#[derive(Debug, Args)]
pub struct HandingOn {
    /// Start the instance below another: that whose token is in this file, as `tipstaff token`
    /// printed it. The new one proves a key of its own. [its default: the agent's key file with
    /// `.below.dpop` added to its name]
    #[arg(long, value_name = "TOKENFILE")]
    pub from: Option<PathBuf>,
    /// The DPoP key of the instance above, which signs what is handed on. Needed where that is an
    /// instance of another agent. [default: the agent's key file with `.dpop` added to its name]
    #[arg(long, value_name = "FILE", requires = "from")]
    pub from_key: Option<PathBuf>,
    /// What is handed on: RFC 9396 `authorization_details` of type `mcp_tool`. Without it, all that
    /// the instance above may do.
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "once")]
    pub authorization_details: Option<PathBuf>,
    /// Calls that it and all below it may make.
    #[arg(long, value_name = "N", requires = "from", conflicts_with = "once")]
    pub max_calls: Option<u64>,
    /// How long it lives at most, in seconds.
    #[arg(long, value_name = "SECONDS", requires = "from")]
    pub lifetime_s: Option<u64>,
    /// Get a credential for one call, held by the instance above, or without `--from` by an instance
    /// as it would otherwise be started. It is good once, within a minute.
    #[arg(long, requires = "call", conflicts_with = "bearer")]
    pub once: bool,
    /// The call: a `tools/call` request, or `{"name": …, "arguments": …}`. The credential is good for
    /// exactly these bytes of arguments: as they stand there, but without blanks between them, which
    /// is how clients write JSON.
    #[arg(long, value_name = "FILE", requires = "once")]
    pub call: Option<PathBuf>,
    /// Take the arguments byte for byte as they stand in the file, blanks included.
    #[arg(long, requires = "call")]
    pub exact: bool,
}

/// `tipstaff kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// One agent and its instances.
    #[arg(long, value_name = "ID", conflicts_with = "upstream")]
    pub agent: Option<AgentId>,
    /// One upstream: nobody may call it.
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<UpstreamName>,
    /// Let it go on instead.
    #[arg(long)]
    pub undo: bool,
    /// Wait until every call that was in flight has ended, and print the certificate.
    #[arg(long)]
    pub wait: bool,
}

/// `tipstaff certificate …`.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// List cuts: what was stopped, by whom, and whether it is certified.
    List,
    /// Show the certificate of a cut, as soon as it is on record.
    Show {
        /// The cut: `control/INDEX` of the entry that narrowed.
        cut: String,
        /// Write the certificate with its proofs to this file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a certificate offline, with nothing but the public keys of the two logs.
    Verify {
        /// What `certificate show --out` wrote.
        file: PathBuf,
        /// The folder with `control.vkey` and `calls.vkey`; get them from somewhere else than the
        /// certificate.
        #[arg(long, value_name = "DIR")]
        vkeys: PathBuf,
    },
}

/// `tipstaff sponsor …`.
#[derive(Debug, Subcommand)]
pub enum SponsorCommand {
    /// Add a sponsor. Typed by an administrator, the sponsorship is asserted, not verified.
    Add {
        /// The sponsor's id, as policies name them.
        id: SponsorId,
        /// Full name.
        #[arg(long)]
        name: String,
        /// E-mail address.
        #[arg(long)]
        email: String,
    },
    /// List sponsors.
    List,
    /// Show one sponsor.
    Show {
        /// The sponsor.
        id: SponsorId,
    },
    /// Stop everything a sponsor sponsors, from the very next call.
    Suspend {
        /// The sponsor.
        id: SponsorId,
        /// Wait until every call that was in flight has ended, and print the certificate.
        #[arg(long)]
        wait: bool,
    },
    /// Lift what administrators stopped a sponsor for.
    ///
    /// Refused where the directory or a signal stopped them, too: `sponsor show` says who did.
    Resume {
        /// The sponsor.
        id: SponsorId,
        /// Lift that as well. The directory goes on saying what it says, and may stop them again.
        #[arg(long)]
        despite_directory: bool,
    },
    /// Confirm that the directory speaks for a sponsor, and by which id it knows them.
    ///
    /// A name or an address alone never shows that somebody in the directory is this person. From
    /// then on what the directory says of that id is taken, their name here included.
    Link {
        /// The sponsor.
        id: SponsorId,
        /// What the directory calls them by: SCIM's `externalId`, the provider's `sub` (or what `[login]` names).
        #[arg(long, value_name = "ID")]
        external_id: String,
        /// Take the place of another external id that they have.
        #[arg(long)]
        replace: bool,
    },
    /// Show or say who is offered a sponsor's agents when nobody answers for these any more.
    ///
    /// Nothing is theirs by that: `agent review` shows the offers, and whoever is offered an agent
    /// takes it over at `/accept`, signed in as themselves. After the deputies comes whom the
    /// directory calls the sponsor's manager.
    Deputies {
        /// The sponsor.
        id: SponsorId,
        /// Their deputies from now on, the first to be offered first.
        #[arg(
            long,
            value_name = "ID,…",
            value_delimiter = ',',
            conflicts_with = "clear"
        )]
        set: Vec<SponsorId>,
        /// Take all deputies away.
        #[arg(long)]
        clear: bool,
    },
    /// Destroy who a suspended sponsor is, or what one key seals. Records keep only handles, and go on
    /// verifying.
    Erase {
        /// The sponsor, or the handle that records name: theirs, or that of a key (`k-…`).
        id: String,
    },
}

/// `tipstaff group …`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups with their members: policies see them as `principal.sponsor.groups`, and `agent add
    /// --people group:NAME` names one.
    List,
}

/// `tipstaff scim …`.
#[derive(Debug, Subcommand)]
pub enum ScimCommand {
    /// Make a token for the directory, and print it once. Those before stay good until revoked.
    Token {
        /// Take one away instead, or all of them if none is named.
        #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "all")]
        revoke: Option<String>,
    },
    /// List the directory's tokens, by what they are called.
    List,
}

/// `tipstaff agent …`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Register an agent under an active sponsor and write the key that starts its instances.
    Add(Box<AgentAdd>),
    /// List agents.
    List,
    /// Show one agent.
    Show {
        /// The agent.
        id: AgentId,
    },
    /// Stop an agent and its instances, from the very next call.
    Suspend {
        /// The agent.
        id: AgentId,
        /// Wait until every call that was in flight has ended, and print the certificate.
        #[arg(long)]
        wait: bool,
    },
    /// Show which agents are needed yet, by sponsor: last use, unused authority, orphaned and dormant
    /// ones, what changed since acceptance, and reviews that are overdue.
    Review {
        /// Only those that somebody should look at: overdue, orphaned, dormant, or with a sponsor who
        /// changed since.
        #[arg(long)]
        due: bool,
    },
    /// Say that you looked, and that the agent is needed: its review begins anew.
    Reviewed {
        /// The agent.
        id: AgentId,
    },
    /// Lift a suspension.
    Resume {
        /// The agent.
        id: AgentId,
    },
    /// End an agent for good.
    Retire {
        /// The agent.
        id: AgentId,
    },
    /// Give an agent another sponsor. All that runs under the one before ends, and the new one has to
    /// accept it, signed in as themselves, unless asserted agents run here.
    Transfer {
        /// The agent.
        id: AgentId,
        /// The new sponsor.
        #[arg(long, value_name = "ID")]
        to: SponsorId,
    },
    /// Say who owns an agent beside its sponsor; whoever is not named does not any more, so all of them
    /// are named each time. `--none` takes all away.
    Owners {
        /// The agent.
        id: AgentId,
        /// Take all owners away.
        #[arg(long, conflicts_with_all = ["business", "technical", "policy"])]
        none: bool,
        /// Who owns it.
        #[command(flatten)]
        owners: OwnerArgs,
    },
    /// Replace an agent's key; the old one stops at once.
    RotateKey {
        /// The agent.
        id: AgentId,
        /// Where to write the new key.
        #[arg(long, value_name = "FILE")]
        key_out: PathBuf,
    },
}

/// `tipstaff agent add`.
#[derive(Debug, Args)]
pub struct AgentAdd {
    /// The agent's id.
    pub id: AgentId,
    /// Who answers for it.
    #[arg(long, value_name = "ID")]
    pub sponsor: SponsorId,
    /// A purpose it may have; instances state it or a narrower one. May be repeated.
    #[arg(long, required = true, value_name = "ID")]
    pub purpose: Vec<PurposePath>,
    /// The most it may ever do: UPSTREAM/TOOL, with `*` in the tool, or UPSTREAM:METHOD. May be
    /// repeated; without it the policies alone decide.
    #[arg(long, value_name = "UPSTREAM/TOOL")]
    pub allow: Vec<String>,
    /// Instances that may run at once.
    #[arg(long, value_name = "N")]
    pub max_instances: Option<u32>,
    /// Allow tokens that are not bound to a key, for clients that cannot prove possession.
    #[arg(long)]
    pub allow_bearer: bool,
    /// Calls per minute over all its instances, counted since the node's start; without it, what
    /// `[limits]` says.
    #[arg(long, value_name = "N")]
    pub calls_per_minute: Option<u32>,
    /// Permitted calls of one instance in its life.
    #[arg(long, value_name = "N")]
    pub calls_per_instance: Option<u64>,
    /// How long an instance lives at most, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub max_lifetime_s: Option<u64>,
    /// How long an instance may be idle, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub idle_s: Option<u64>,
    /// Its software and version, such as `claude-code/2.1`.
    #[arg(long, value_name = "TEXT")]
    pub software: Option<String>,
    /// Its model's digest or name.
    #[arg(long, value_name = "TEXT")]
    pub model: Option<String>,
    /// Where it runs, such as `production`.
    #[arg(long, value_name = "TEXT")]
    pub environment: Option<String>,
    /// Who may sign in to start instances of it in their own name: `sponsor`, `everyone` (every
    /// active sponsor) or `group:NAME`.
    #[arg(long, value_name = "WHO")]
    pub people: Option<String>,
    /// Hops of delegation below one of its instances; 0: it may not delegate. Without it, 4.
    #[arg(long, value_name = "N")]
    pub max_depth: Option<u8>,
    /// Live instances directly below one of its instances. Without it, 32.
    #[arg(long, value_name = "N")]
    pub max_children: Option<u32>,
    /// Who owns it beside its sponsor.
    #[command(flatten)]
    pub owners: OwnerArgs,
    /// Where to write the agent's key; `agents/` beside the configuration is out of reach of
    /// confined upstreams. A file that is there is not overwritten. Without it the agent has no
    /// key: only people, workloads and other instances start it.
    #[arg(long, value_name = "FILE")]
    pub key_out: Option<PathBuf>,
}

/// Who owns an agent beside its sponsor.
#[derive(Debug, Args)]
#[group(id = "owner-args")]
pub struct OwnerArgs {
    /// The sponsor who answers for what it does for the business.
    #[arg(long = "business-owner", value_name = "ID")]
    pub business: Option<SponsorId>,
    /// The sponsor who answers for how it runs.
    #[arg(long = "technical-owner", value_name = "ID")]
    pub technical: Option<SponsorId>,
    /// The sponsor who answers for its policies.
    #[arg(long = "policy-owner", value_name = "ID")]
    pub policy: Option<SponsorId>,
}

/// `tipstaff keys …`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys that sign tokens and the logs and the one that wraps the keyring, and what
    /// became of those before.
    List,
    /// Have another key sign.
    ///
    /// The next token key is published already, and another next one is made. While no node runs,
    /// this makes another token key in the keys folder, also where the one that signed is lost; the
    /// next start puts it on record.
    ///
    /// A log's next key is made and announced under the present one, and then both sign until
    /// `[ledger] key_overlap_days` are over: tell witnesses of it before.
    ///
    /// The keyring's keys are all wrapped anew, and the old wrapping key opens nothing any more.
    Rotate {
        /// What: the key that signs tokens, that of one of the two logs, or the one that wraps the
        /// erasable keys.
        #[arg(value_parser = ["token", "control", "calls", "keyring"])]
        what: String,
    },
    /// Say that somebody else may have a key.
    ///
    /// What a token key signed is refused from the very next call. A log's key signs nothing any
    /// more from then on, and what it signs is refused by whoever follows the log.
    Revoke {
        /// The key's id, as `keys list` shows it.
        kid: register::KeyId,
    },
}

/// `tipstaff secret …`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Put a secret in, or another value in its place: what uses it has it with the next call.
    ///
    /// The value is standard input to its end, or a file; line breaks at its end are not part of it.
    /// It is never an argument, which other users of the machine could read.
    Set {
        /// Its name.
        name: vocab::SecretName,
        /// Take the value from this file.
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// Where the vault is.
        #[command(flatten)]
        files: VaultFiles,
    },
    /// List secrets: their names, when they were set, and what refers to them. No values.
    List {
        /// Where the vault is.
        #[command(flatten)]
        files: VaultFiles,
    },
    /// Say that a vault that was set back, or is gone, is as it should be, and change it again.
    ///
    /// The node refuses changes of a vault that is older than the record says, and `tipstaff doctor`
    /// tells of it: what was replaced because it leaked may be in use again. Look at that first. The
    /// node must run, so that it is on record who said so.
    Accept,
    /// Take a secret out. What refers to it is refused from the next call on.
    Rm {
        /// Its name.
        name: vocab::SecretName,
        /// Where the vault is.
        #[command(flatten)]
        files: VaultFiles,
    },
}

/// `tipstaff inspection …`.
#[derive(Debug, clap::Subcommand)]
pub enum InspectionCommand {
    /// Show the rules in force: how many, their digest, the files, and what is left out.
    Show,
    /// Read `[inspect]` of the configuration and its files again, and look for those rules from now
    /// on. If they cannot be used, those that were in force stay.
    Reload,
}

/// Which vault a `secret` command is about.
#[derive(Debug, Args)]
pub struct VaultFiles {
    /// A data folder that no node serves; by default the configuration's, by its node where one
    /// runs.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The keys folder that goes with it; by default `keys` beside it.
    #[arg(long, value_name = "DIR", requires = "data")]
    pub keys: Option<PathBuf>,
}

/// `tipstaff instance …`.
#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// List instances, in the order they started.
    List {
        /// Those of one agent only.
        #[arg(long, value_name = "ID")]
        agent: Option<AgentId>,
        /// Only those that are not over.
        #[arg(long)]
        live: bool,
    },
    /// Show one instance.
    Show {
        /// The instance.
        id: InstanceId,
    },
    /// Draw instances and those below them: who started whom, and what was handed on.
    Tree {
        /// The tree that this one is in; without it, all that are not over.
        id: Option<InstanceId>,
    },
    /// End an instance, from the very next call.
    Revoke {
        /// The instance.
        id: InstanceId,
    },
}

/// `tipstaff policy …`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Validate the policy files against the upstreams' own tools.
    ///
    /// Without a running node, the tools are those on record in the data folder, or those given
    /// with `--tools`. Exit code 1 says that something is wrong, or that a policy names tools or
    /// arguments of an upstream whose tools are not known, so that it could not be checked.
    Check(PolicyTools),
    /// Run the test cases that lie beside the policies.
    ///
    /// Without a running node, the tools are those on record in the data folder, or those given
    /// with `--tools`. Exit code 1 says that a case failed. A case fails that calls what is not
    /// there (an upstream, a tool, an argument), or a tool of an upstream whose tools are not known:
    /// it would be denied whatever the policies say.
    Test(PolicyTools),
    /// Activate the policy files, with author and test results on record.
    Apply,
}

/// What policies are judged by, beside what is on record.
#[derive(Debug, Args)]
pub struct PolicyTools {
    /// Take the tools of an upstream from a file with its `tools/list` result, and ask no node.
    /// May be repeated; of the only upstream, FILE is enough.
    #[arg(long, value_name = "UPSTREAM=FILE")]
    pub tools: Vec<ToolsFile>,
}

/// `tipstaff trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// An instance, or a record as LOG/INDEX.
    pub id: String,
}

/// `tipstaff ledger …`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Verify both logs and the blobs that they name, from their files.
    Verify {
        /// A checkpoint that was kept elsewhere, or a folder that `[ledger] anchor` names: the logs
        /// must go on from it. Can be given more than once; the configuration's folders and
        /// `DIR/*.cosigned` are looked at by themselves.
        #[arg(long, value_name = "PATH")]
        anchor: Vec<PathBuf>,
        /// The files.
        #[command(flatten)]
        files: LedgerFiles,
    },
    /// Print a C2SP tlog-proof of an entry.
    Proof {
        /// The entry: an index in `calls`, or LOG/INDEX.
        index: String,
        /// Who must have cosigned.
        #[command(flatten)]
        quorum: QuorumArgs,
        /// The files.
        #[command(flatten)]
        files: LedgerFiles,
    },
    /// Print entries as lines `{log, index, leaf_hash, kind, entry}`.
    ///
    /// Where a quorum of witnesses is asked for, only entries are printed that a checkpoint with so
    /// many cosignatures covers; how many come after them is told on standard error.
    Export {
        /// One log only.
        #[arg(long, value_name = "control|calls")]
        log: Option<vocab::LogName>,
        /// Who must have cosigned.
        #[command(flatten)]
        quorum: QuorumArgs,
        /// The files.
        #[command(flatten)]
        files: LedgerFiles,
    },
    /// Run every decision again, from the files alone.
    ///
    /// Anything that comes out different, or that is missing without a record of erasure, is told,
    /// and makes the exit code 1. Whether the files are what was signed is for `verify` to say.
    Replay {
        /// The files.
        #[command(flatten)]
        files: LedgerFiles,
        /// The key that opens the facts; by default `keys/facts.key` of the configuration.
        #[arg(long, value_name = "FILE")]
        facts_key: Option<PathBuf>,
    },
}

/// Who must have cosigned what is handed out.
#[derive(Debug, Args)]
pub struct QuorumArgs {
    /// So many witnesses must have cosigned the checkpoint; by default what `[ledger] quorum` says.
    /// 0 asks for none.
    #[arg(long, value_name = "K")]
    pub quorum: Option<usize>,
    /// A witness's verifier key, of those that count; by default the configuration's. May be
    /// repeated.
    #[arg(long, value_name = "VKEY", requires = "quorum")]
    pub witness: Vec<ledger::note::Verifier>,
}

/// Which files a `ledger` command reads.
#[derive(Debug, Args)]
pub struct LedgerFiles {
    /// A data folder or a copy of one; by default the configuration's. No node is needed.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A folder with `control.vkey` and `calls.vkey` from a place you trust; by default the data
    /// folder's own.
    #[arg(long, value_name = "DIR")]
    pub vkeys: Option<PathBuf>,
}

/// `tipstaff break-glass …`.
#[derive(Debug, Subcommand)]
pub enum BreakGlassCommand {
    /// Ask that an agent may run although its sponsor is suspended or has not accepted it.
    ///
    /// With `--admin-key`, as a named administrator. Nothing is open until another one approves.
    Request {
        /// The agent.
        agent: AgentId,
        /// Why, in your own words. It is kept sealed and can be erased.
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// For how long, from when it is approved.
        #[arg(long, value_name = "N", default_value_t = 60)]
        minutes: u64,
    },
    /// Open what another administrator asked for: from then on the agent may run.
    ///
    /// With `--admin-key`, as a named administrator who was one before it was asked for.
    Approve {
        /// The break-glass, as `break-glass list` shows it.
        id: vocab::Handle,
    },
    /// End it before its time, or take the request back. Any administrator may.
    End {
        /// The break-glass.
        id: vocab::Handle,
    },
    /// List every break-glass there was.
    List,
    /// Show one: who asked, who approved, why, and until when.
    Show {
        /// The break-glass.
        id: vocab::Handle,
    },
}

/// `tipstaff approval …`.
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// List the calls that wait for people.
    List {
        /// Also those that were answered or are over, as long as the node knows them.
        #[arg(long)]
        all: bool,
    },
    /// Show one: who asks, the exact text that approvers are shown, who answered, and where.
    Show {
        /// The approval, as `approval list` shows it.
        id: vocab::Handle,
    },
    /// Say where to approve it: on a page of the node, signed in as yourself.
    ///
    /// Nothing is approved from here, and the exit code is 1: an administrator's credential is
    /// nobody's approval, and what a page shows no terminal can change.
    Grant {
        /// The approval.
        id: vocab::Handle,
    },
    /// Say where to refuse it: on the same page, signed in as yourself. The exit code is 1.
    Refuse {
        /// The approval.
        id: vocab::Handle,
    },
}

/// `tipstaff pep …`.
#[derive(Debug, Subcommand)]
pub enum PepCommand {
    /// Let a service or gateway ask for decisions, and print the token that it asks with.
    ///
    /// It asks over `AuthZEN` (`/access/v1/evaluation`) or gRPC `ext_authz`, and acts on the answers
    /// itself. An answer discloses policy, so it may ask only about what it stands in front of. The
    /// token is printed once; the node keeps its digest.
    Add {
        /// What it is called, in records too.
        name: vocab::PepName,
        /// An upstream or service that it stands in front of; give it once for each.
        #[arg(long = "for", value_name = "UPSTREAM", required = true)]
        serves: Vec<UpstreamName>,
        /// Take its word for which instance a request is of. Otherwise it presents the instance's
        /// own access token, which is checked here.
        #[arg(long)]
        trusted: bool,
    },
    /// List them, and what each may ask about.
    List,
    /// Remove one. It gets no answer after that, and this command returns when that is on record.
    Remove {
        /// What it is called.
        name: vocab::PepName,
    },
}

/// `tipstaff upstream …`.
#[derive(Debug, Subcommand)]
pub enum UpstreamCommand {
    /// List the tools of the upstreams: accepted, new, changed, refused or gone.
    ///
    /// With what was found in their definitions, and which other tools their names look like.
    Tools {
        /// Only those of this upstream.
        upstream: Option<UpstreamName>,
    },
    /// Show what a tool's definition says now, against what was accepted.
    Diff {
        /// UPSTREAM/TOOL.
        tool: String,
    },
    /// Accept the definition of a tool that is held: agents get it, and calls are judged by it.
    ///
    /// Exactly what you looked at is accepted. If the upstream lists something else by now, nothing
    /// is.
    Accept(ToolJudgement),
    /// Refuse the definition of a tool that is held. It goes on not being called.
    Refuse(ToolJudgement),
}

/// What is accepted or refused.
#[derive(Debug, Args)]
pub struct ToolJudgement {
    /// UPSTREAM/TOOL.
    pub tool: String,
    /// The digest of the definition that you looked at, as `upstream diff` shows it.
    #[arg(long, value_name = "SHA256")]
    pub digest: vocab::Digest,
}

/// `tipstaff admin …`.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make a named administrator's key, and have the node put its public half on record.
    ///
    /// They give commands with `--admin-key FILE`, on this machine, and every record of what they do
    /// names them and the key. They need not be the node's user, but must reach its socket: make
    /// them a member of the node user's group.
    Add {
        /// The administrator's name.
        name: vocab::AdminId,
        /// Where to write the key.
        #[arg(long, value_name = "FILE")]
        key_out: PathBuf,
    },
    /// List named administrators and their public keys.
    List,
    /// Remove one. Nothing that they ask for after that is done.
    Remove {
        /// The administrator's name.
        name: vocab::AdminId,
    },
}
