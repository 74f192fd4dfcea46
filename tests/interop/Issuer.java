// What an issuer does, with the Java client that openapi-generator makes from the service's description. scripts/java-client generates and
// compiles it, and runs this file.
//
// Environment: STATUSLIST_URL, STATUSLIST_API_KEY, STATUSLIST_POOL.

import java.util.List;
import java.util.UUID;
import java.util.concurrent.Callable;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.ListsApi;
import org.openapitools.client.api.PoolsApi;
import org.openapitools.client.api.ReferencesApi;
import org.openapitools.client.api.StatusesApi;
import org.openapitools.client.auth.ApiKeyAuth;
import org.openapitools.client.model.BatchUpdate;
import org.openapitools.client.model.Problem;
import org.openapitools.client.model.Reference;
import org.openapitools.client.model.Status;
import org.openapitools.client.model.StatusClaim;
import org.openapitools.client.model.StatusName;
import org.openapitools.client.model.Stored;
import org.openapitools.client.model.Update;

class Issuer {
    static final String POOL = System.getenv("STATUSLIST_POOL");
    static final ApiClient CLIENT = client();
    static final StatusesApi STATUSES = new StatusesApi(CLIENT);
    static final PoolsApi POOLS = new PoolsApi(CLIENT);

    static ApiClient client() {
        var client = new ApiClient();
        client.setBasePath(System.getenv("STATUSLIST_URL"));
        ((ApiKeyAuth) client.getAuthentication("api-key")).setApiKey(System.getenv("STATUSLIST_API_KEY"));
        return client;
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    /** The code of a request that must be refused with this status. */
    static String refusal(int status, Callable<?> request) throws Exception {
        try {
            request.call();
        } catch (ApiException refused) {
            check(refused.getCode() == status, refused.toString());
            return Problem.fromJson(refused.getResponseBody()).getCode();
        }
        throw new AssertionError("the service took a request that it should refuse");
    }

    static Update update(Reference reference, StatusName value) {
        return new Update().uri(reference.getUri()).index(reference.getIndex().longValue()).value(new Status(value));
    }

    static Void set(Update update) throws ApiException {
        STATUSES.setStatus(update);
        return null;
    }

    static String id(Reference reference) {
        return reference.getUri().replaceAll(".*/", "");
    }

    static Stored stored(Reference reference) throws ApiException {
        return POOLS.getStatus(POOL, id(reference), reference.getIndex().longValue());
    }

    public static void main(String[] arguments) throws Exception {
        var pool = POOLS.getPool(POOL);
        var key = UUID.randomUUID().toString();
        var allocation = new ReferencesApi(CLIENT);
        var references = allocation.allocateReferences(POOL, 3, "true", key).getReferences();
        var again = allocation.allocateReferences(POOL, 3, "true", key).getReferences();
        check(again.equals(references), "a retry gets the same references");
        Reference first = references.get(0), second = references.get(1), third = references.get(2);
        var claim = (StatusClaim) first.getStatus().getActualInstance();
        check(claim.getStatusList().getIdx().equals(first.getIndex()), "a claim: " + claim);

        set(update(first, StatusName.REVOKED).expected(new Status(StatusName.VALID)));
        STATUSES.setStatuses(new BatchUpdate().updates(List.of(update(second, StatusName.REVOKED), update(third, StatusName.VALID))));
        var values = List.of(stored(first).getValue(), stored(second).getValue(), stored(third).getValue());
        check(values.equals(List.of(1, 1, 0)), "the stored statuses: " + values);

        var changed = update(first, StatusName.VALID).expected(new Status(StatusName.VALID));
        check(refusal(412, () -> set(changed)).equals("PRECONDITION_FAILED"), "a change that expects another status");
        var beyond = update(first, StatusName.REVOKED).index(pool.getSize().longValue());
        check(refusal(400, () -> set(beyond)).equals("INDEX_OUT_OF_BOUNDS"), "a change of an entry that does not exist");

        var uri = first.getUri();
        check(POOLS.getLists(POOL).getLists().stream().anyMatch(list -> list.getUri().equals(uri)), "the list of a new reference");
        for (var reference : references) {
            for (int beats = 0; !stored(reference).getPublished(); beats++) {
                check(beats < 30, "not published after 30 beats: " + reference);
                Thread.sleep(pool.getUpdateInterval() * 1000);
            }
        }
        var lists = new ListsApi(CLIENT);
        check(lists.fetchAggregation(POOL).getStatusLists().contains(uri), "the aggregation has the list");
        check(lists.fetchKeys().getKeys().stream().anyMatch(one -> pool.getKeyId().equals(one.get("kid"))), "the key is published");
        check(lists.fetchList(id(first), null).matches("eyJ[\\w-]+(\\.[\\w-]+){2}"), "a signed list");
        for (var reference : List.of(first, second)) System.out.println("revoked " + reference.getUri() + " " + reference.getIndex());
    }
}
