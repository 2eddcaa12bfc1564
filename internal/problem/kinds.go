package problem

// Page is what the page of a kind says.
type Page struct {
	Title  string // the same in every problem document of the kind
	Means  string // what happened
	Remedy string // what the caller can do
}

// Kinds are all kinds, by ascending status.
func Kinds() []Kind {
	return []Kind{Invalid, Unauthenticated, Denied, TenantKey, Missing, Conflict, TooMany, Internal, Unavailable}
}

// Title is the short name of a kind. It never varies between occurrences (RFC 9457, section 3.1.3).
func (k Kind) Title() string { return k.Page().Title }

// Page explains a kind to whoever met it. A kind that is not on the list is explained as Internal.
func (k Kind) Page() Page {
	switch k {
	case Invalid:
		return Page{"The request is not valid",
			"The request cannot be understood, or it breaks a rule of its own: a field is missing or malformed, the JSON is not strict JSON, the method or the media type is not one that this address takes, or it is too large. Nothing was done.",
			"Read `detail`, and each of `errors`: `location` says where, `message` says what. Correct the request; sent unchanged it fails again."}
	case Unauthenticated:
		return Page{"Who is asking is not proved",
			"The request carries no credential, or one that proves nothing: unknown, expired, revoked or damaged. Which of these it was is deliberately not said.",
			"Send a live credential in the `Authorization` header (`Bearer ...`), never in the address. If it worked before, it may have expired or been revoked."}
	case Denied:
		return Page{"This is not allowed",
			"It is known who asks, and that one may not do this: a scope, a role or an address is missing, or a policy forbids it. The refusal is recorded in the log of the organisation.",
			"Ask an owner of the organisation for what `detail` names, and quote the request id."}
	case TenantKey:
		return Page{"Keys of an organisation are closed",
			"The organisation keeps its keys under a key management of its own, and that does not open them now: it was told not to, or it cannot be reached. Until it does, nothing of the organisation can be read, decided or recorded, by anybody; others are not concerned. Nothing was done, and nothing is lost.",
			"Allow the key again in the organisation's key management, or make it reachable, as the answer says. Everything works again within seconds, with no repair. If only the access to it has changed, the operator of the installation can take the new one, with `avouch organisations kms repair`."}
	case Missing:
		return Page{"There is no such thing",
			"Nothing of that name exists in the caller's own organisation. Things of other organisations answer the same.",
			"Check the identifier, the path, and that the credential belongs to the organisation that you mean."}
	case Conflict:
		return Page{"It conflicts with what is there",
			"The thing exists already, has changed since it was read, or a request with the same `Idempotency-Key` is running, ended in a way that nobody knows, or had another body. Nothing was done by this request.",
			"Read the thing again and decide with what it says now. If there is a `Retry-After`, wait that long and send the same request again."}
	case TooMany:
		return Page{"A limit is reached",
			"A rate limit or a quota is spent. Nothing was done.",
			"Wait for as long as `Retry-After` says, then send the request again; slow down if it happens often."}
	case Unavailable:
		return Page{"It cannot be done at present",
			"The request cannot be decided or recorded now, so it was not allowed: nothing happens here without a record. After a time limit, or a loss of the database, it can be unknown whether it was done, and `detail` says so.",
			"Try again after `Retry-After`, with the same `Idempotency-Key` where the operation takes one."}
	}
	return Page{"Something failed on our side",
		"The server met a fault of its own. The cause is in its log, under the request id.",
		"Try again later. If it lasts, report it with the request id."}
}
