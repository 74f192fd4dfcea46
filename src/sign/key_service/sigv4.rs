//! Requests to AWS, signed with its Signature Version 4, by the library that signs those to buckets.

use std::fmt;

use object_store::aws::{
    AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredential, AwsCredentialProvider,
};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::Request;
use secrecy::{ExposeSecret, SecretString};

/// Signs requests to one service in one region.
pub(super) struct Sigv4 {
    service: &'static str,
    pub(super) region: String,
    credentials: AwsCredentialProvider,
}

impl Sigv4 {
    /// Without credentials it takes those of the environment or of the machine's role; without a region, that of the environment,
    /// or us-east-1.
    pub(super) fn new(
        service: &'static str,
        region: Option<&str>,
        credentials: Option<&(String, SecretString)>,
    ) -> Result<Self, String> {
        let builder = match credentials {
            None => AmazonS3Builder::from_env(),
            Some((id, secret)) => {
                AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret.expose_secret())
            }
        };
        let builder = region.into_iter().fold(builder, |builder, region| builder.with_region(region));
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        // The bucket is never asked: only it knows where credentials come from.
        let bucket = builder.with_bucket_name("unused").build();
        let bucket = bucket.map_err(|error| format!("cannot prepare the credentials of AWS: {error}"))?;
        Ok(Self { service, region, credentials: bucket.credentials().clone() })
    }

    /// Adds the headers that prove who asks.
    pub(super) async fn sign(&self, request: &mut Request) -> Result<(), String> {
        let credential = self.credentials.get_credential().await.map_err(|error| error.to_string())?;
        let signed = self.authorized(request, &credential)?;
        request.headers_mut().extend(signed.headers().clone());
        Ok(())
    }

    fn authorized(&self, request: &Request, credential: &AwsCredential) -> Result<HttpRequest, String> {
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let mut signed = HttpRequest::new(HttpRequestBody::from(body.to_vec()));
        *signed.method_mut() = request.method().clone();
        *signed.headers_mut() = request.headers().clone();
        *signed.uri_mut() = request.url().as_str().parse().map_err(|error| format!("{error}"))?;
        AwsAuthorizer::new(credential, self.service, &self.region)
            .try_authorize(&mut signed, None)
            .map_err(|error| error.to_string())?;
        Ok(signed)
    }
}

/// Omits the credentials.
impl fmt::Debug for Sigv4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sigv4({}, {})", self.service, self.region)
    }
}
