// Package policy is the scope catalogue: what agents can be allowed to do, and how much is at stake with each. And it is
// break-glass: what people and operators are allowed for once, with a reason, and are looked after for.
//
// A scope is a name such as read:email. Fourteen are built in and the same for everybody; an organisation adds its own.
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
//
// And of break-glass, where a person asks for capabilities for a while, or an operator with a shell to see what an organisation
// keeps:
//
//  7. What is lent is asked for with a reason, within what the organisation's rules lend at that moment, never Everything nor what
//     break-glass itself takes, and for no longer than the rules let: TestGlassLendsNoMoreThanTheRules, TestGlassAskingNeeds.
//  8. It counts from its opening, which is in the log by then, to its end, to the microsecond, and only in sessions that were
//     proved since it opened: TestGlassLendsToTheEnd. It ends with the person's removal or suspension: TestGlassEndsWithThePerson.
//     What is lent is handed on to nobody, and prolongs nothing: TestGlassIsNotHandedOn, TestGlassAskingNeeds.
//  9. Somebody else lets it, who holds the capability for that and has just been proved, or a delay in which nobody refused, or a
//     system of the organisation's own: TestGlassNeedsAnother, TestGlassDelay, TestGlassExternal. Whom the asker could have
//     made an approver since an hour before the asking is none: TestGlassApproverIsNotTheAskersMake. Of decisions at the same
//     time one counts, on all servers: TestGlassDecidedAtOnce, TestGlassAskedAtOnce, TestGlassAnswersAtOnce, TestGlassLife.
//  10. An external system is asked and answers by signed messages; an answer that is forged, late, replayed, or of another use is
//     nothing, and is told nothing: TestGlassExternal, TestGlassExternalWhoSetsAndLapses, TestHookSignature, FuzzHookHeaders.
//     No job and no error holds the reason, the address or the secret: TestGlassExternal.
//  11. Each use is its own slice of the log: TestGlassSlice, server.TestGlass. Somebody else reviews it, and signs off each week's
//     list; owners are reminded until then: TestGlassReviews, TestGlassWeeks.
//  12. An operator's program opens nothing of an organisation's without a use that is open, by the same operator, in the logs of
//     both the organisation and the installation; not as superuser of the database, by a row of one's own either:
//     TestGlassOperator, TestGlassOperatorRefused, main.TestDevScripts.
//  13. Every operation is denied to those who lack its capability: TestGlassRoutes.
//
// What it does not promise. Two people who agree open whatever the rules lend. An owner can set the rules and the secret of the
// external system, which the log tells. An operator who has the platform key, the key store and the database can do without this
// program; what it does is told, what others do is not. An owner key that an operator makes with the glass broken
// (apikey.Room.Recover) lasts longer than the use.
package policy
