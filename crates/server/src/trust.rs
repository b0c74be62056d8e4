//! Whose word is taken for who somebody is, put together from the configuration.

use std::sync::Arc;

use tokens::{KeySet, Login, Provider, PublicUrl, Source, Trust, Workloads, discovery_url};
use vocab::{Clock, Rng};

use crate::config::{Config, Jwks, ProviderConfig, WorkloadConfig};
use crate::fetch::Fetcher;
use crate::keys;

/// What the configuration says, ready to be asked; or what is wrong with it.
pub(crate) fn trust(
    config: &Config,
    public_url: &PublicUrl,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> Result<Trust, String> {
    let fetch: Arc<dyn tokens::Fetch> = Arc::new(Fetcher::new(config.login.loopback_clients));
    let provider = config.login.provider.as_ref();
    let login = provider.map(|it| login(config, it, public_url, &fetch, clock, rng));
    let mut workloads = Vec::new();
    for (name, it) in &config.workloads {
        let source = source(it).map_err(|why| format!("`workload.{}`: {why}", name.as_str()))?;
        let issuer = it.issuer.as_ref().map(|url| url.as_str().to_owned());
        workloads.push(Workloads {
            name: name.clone(),
            provider: Provider::new(issuer, source, Arc::clone(&fetch), Arc::clone(clock)),
            spiffe: it.spiffe.clone(),
            audiences: vec![
                it.audience
                    .clone()
                    .unwrap_or_else(|| public_url.to_string()),
            ],
            rules: it.rules.clone(),
        });
    }
    let secret = keys::seed_or_new(&keys::people_key(&config.keys), &**rng);
    Ok(Trust {
        secret: secret.map_err(|error| error.to_string())?,
        login: login.transpose()?,
        assertions: provider.is_some_and(|it| it.identity_assertions),
        people: provider.is_some() || config.login.local,
        loopback_clients: config.login.loopback_clients,
        workloads,
        fetch,
    })
}

fn login(
    config: &Config,
    it: &ProviderConfig,
    public_url: &PublicUrl,
    fetch: &Arc<dyn tokens::Fetch>,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> Result<Login, String> {
    let wrong = |why: String| format!("`login`: {why}");
    let source = discovery_url(&it.issuer).map_err(|error| wrong(error.to_string()))?;
    let secret = it.client_secret.as_ref().map(|it| config.secret(it));
    let settings = tokens::LoginConfig {
        provider: Provider::new(
            Some(it.issuer.as_str().to_owned()),
            Source::Discovery(source),
            Arc::clone(fetch),
            Arc::clone(clock),
        ),
        client_id: it.client_id.clone(),
        client_secret: secret.transpose().map_err(wrong)?,
        person: it.person.clone(),
        scopes: it.scopes.clone(),
    };
    Ok(Login::new(
        settings,
        format!("{public_url}/login/callback"),
        Arc::clone(fetch),
        Arc::clone(rng),
    ))
}

fn source(it: &WorkloadConfig) -> Result<Source, String> {
    match (&it.jwks, &it.issuer) {
        (Some(Jwks::Url(url)), _) => Ok(Source::Address(url.clone())),
        (Some(Jwks::File(path)), _) => {
            let shown = path.display();
            let bytes =
                std::fs::read(path).map_err(|cause| format!("cannot read `{shown}`: {cause}"))?;
            let keys = KeySet::parse(&bytes).map_err(|cause| format!("`{shown}`: {cause}"))?;
            Ok(Source::Given(keys))
        }
        (None, Some(issuer)) => discovery_url(issuer)
            .map(Source::Discovery)
            .map_err(|error| error.to_string()),
        (None, None) => Err("nobody says where its keys are".to_owned()),
    }
}
