// What a reader of mdocs does, with multipaz: verifies what the issuer signed, against the issuers' root, then asks for the status.
// Usage: Mdoc FILE ROOT.pem    FILE has an mdoc as its holder gets it (IssuerSigned). Prints "VALID", "INVALID" or whatever the status is.
// multipaz is written in Kotlin, and its constructors with durations have no name in Java: hence the reflection.

import io.ktor.client.HttpClient;
import java.lang.reflect.Constructor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import kotlin.coroutines.Continuation;
import kotlin.coroutines.EmptyCoroutineContext;
import kotlin.jvm.functions.Function2;
import kotlin.time.Clock;
import kotlin.time.Instant;
import kotlinx.coroutines.BuildersKt;
import kotlinx.coroutines.CoroutineScope;
import org.multipaz.cbor.Cbor;
import org.multipaz.cbor.DataItem;
import org.multipaz.cose.Cose;
import org.multipaz.cose.CoseNumberLabel;
import org.multipaz.cose.CoseSign1;
import org.multipaz.crypto.Algorithm;
import org.multipaz.crypto.X509Cert;
import org.multipaz.crypto.X509CertChain;
import org.multipaz.mdoc.issuersigned.IssuerNamespaces;
import org.multipaz.mdoc.mso.MobileSecurityObject;
import org.multipaz.revocation.CachingRevocationChecker;
import org.multipaz.revocation.RevocationCheckResult;
import org.multipaz.revocation.RevocationStatus;
import org.multipaz.storage.Storage;
import org.multipaz.storage.ephemeral.EphemeralStorage;
import org.multipaz.validation.ValidationResult;
import org.multipaz.webtoken.ValidateJwtKt;

public class Mdoc {
  interface Step {
    Object run(Continuation<Object> done);
  }

  @SuppressWarnings("unchecked")
  static <T> T await(Step step) throws Exception {
    Function2<CoroutineScope, Continuation<? super Object>, Object> block =
        (scope, done) -> step.run((Continuation<Object>) done);
    return (T) BuildersKt.runBlocking(EmptyCoroutineContext.INSTANCE, block);
  }

  static void check(String what, ValidationResult result) {
    if (result.getHasErrors()) throw new IllegalStateException(what + ": " + result.getErrors());
  }

  public static void main(String[] arguments) throws Exception {
    DataItem issuerSigned = Cbor.INSTANCE.decode(Files.readAllBytes(Path.of(arguments[0])));
    X509Cert root = X509Cert.Companion.fromPem(Files.readString(Path.of(arguments[1])));
    Instant now = Clock.System.INSTANCE.now();

    // The chain of the document signer, and its signature.
    CoseSign1 auth = issuerSigned.get("issuerAuth").getAsCoseSign1();
    X509CertChain chain =
        auth.getUnprotectedHeaders().get(new CoseNumberLabel(Cose.COSE_LABEL_X5CHAIN)).getAsX509CertChain();
    await(done -> ValidateJwtKt.trustedRootCertificateChainValidator(root).invoke(chain, now, done));
    Algorithm algorithm = Algorithm.ES256;
    await(done -> Cose.INSTANCE.coseSign1Check(
        chain.getCertificates().get(0).getPublicKey(), null, auth, algorithm, (Continuation) done));

    // What it signed: the validity of the mdoc, and the digests of its elements.
    DataItem mso = Cbor.INSTANCE.decode(Cbor.INSTANCE.decode(auth.getPayload()).getAsTagged().getAsBstr());
    check("MSO", MobileSecurityObject.Companion.validate(mso, now));
    MobileSecurityObject object = MobileSecurityObject.Companion.fromDataItem(mso);
    IssuerNamespaces elements = IssuerNamespaces.Companion.fromDataItem(issuerSigned.get("nameSpaces"));
    check("elements", Mdoc.<ValidationResult>await(done -> elements.validateAgainstMso(object, (Continuation) done)));

    // The status: only a list whose signer the issuers' root vouches for, or the certificate in the MSO, if there is one.
    RevocationStatus status = object.getRevocationStatus();
    System.err.println(status);
    RevocationCheckResult result = await(done -> checker().check(status, root, true, now, true, false, (Continuation) done));
    if (result.getError() != null) throw new IllegalStateException("no status", result.getError());
    if (!result.isTrusted()) throw new IllegalStateException("the list is not trusted");
    System.out.println(result.getState());
    System.exit(0);
  }

  /** With the library's defaults for all but the storage. */
  static CachingRevocationChecker checker() {
    try {
      for (Constructor<?> constructor : CachingRevocationChecker.class.getDeclaredConstructors()) {
        Class<?>[] types = constructor.getParameterTypes();
        // The last two are which parameters have their default, as bits, and a marker.
        if (types.length == 8 && types[6] == int.class) {
          constructor.setAccessible(true);
          Object[] values = {new EphemeralStorage(Clock.System.INSTANCE), null, 0L, 0L, false, false, 0b111110, null};
          return (CachingRevocationChecker) constructor.newInstance(values);
        }
      }
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException(error);
    }
    throw new IllegalStateException("CachingRevocationChecker has other constructors");
  }
}
