// Package policy is the scope catalogue: what agents can be allowed to do, and how much is at stake with each.
//
// A scope is a name such as read:email. Twelve are built in and the same for everybody; an organisation adds its own.
// They are what agents are granted and what services ask for; they are not the capabilities of API keys (package apikey).
//
// What it promises:
//
//  1. The built-in scopes, their risks and descriptions are those of the published catalogue: TestBuiltInCatalogue.
//  2. Version changes with the built-in catalogue and with the rules of a decision, and with nothing else: TestVersion.
//  3. An organisation's own scope cannot take the name of a built-in one, nor read like a capability of a key:
//     TestOwnScopeNames, FuzzCheckName.
//  4. An organisation's own scopes are seen by nobody else, and two organisations may use one name: TestOwnScopes.
//  5. Only the capability scopes:write adds one, and the log says that it happened, its name and description only to
//     those who may open private fields: TestAddingIsRecorded.
//  6. There are at most MaxOwn of an organisation's own, also if many are added at once: TestMaxOwn.
package policy
