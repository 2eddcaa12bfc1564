// Package scim lets an organisation's directory make, change and end its members, by SCIM 2.0 (RFC 7643, RFC 7644).
//
// A directory is whatever has an API key with scim:write. Such a key lies in a machine of somebody else's for years, so what it may
// do is little: it decides about those whom it made, or whom an administrator gave to it, and whose address is of a domain that
// the organisation has proved.
//
// What it promises:
//
//  1. It takes no account: nobody without a directory is changed; no address is changed of who has a password or a second factor or
//     governs, nor into a domain that is not the organisation's; other organisations are not there: TestAccountsAreNotTaken,
//     TestAdopt. Whom a connection admitted is no different: TestWhoCameByAProviderIsNotTheDirectorys.
//  2. It gives no roles: what a group of the directory may do is for administrators to say, and it takes in only those about whom
//     the directory decides. It makes no owner, and ends not the last one: TestGroups, TestLastOwner, TestAccountsAreNotTaken. No group
//     of it takes from the only owner the last factor that is a way in: TestGroupsLeaveAWayIn. Into a group to which items of the vault are
//     granted a key puts nobody who made it: server.TestNoItemsByAProvider.
//  3. Who is suspended has no session from the acknowledgement on; whom an administrator suspended, a directory does not resume:
//     TestSuspension. Who is deleted is offboarded as by hand, with the report: TestUsers.
//  4. What Entra and Okta write is understood: names in any case, booleans as text, operations without a path, addresses by
//     filter: TestUsers, TestApply, TestMembershipByAnyWay. Whatever is sent, nothing panics, and a failure is one of the
//     standard's: TestParseFilter, TestParsePath, FuzzParsePath, FuzzApply.
//  5. The bytes on the wire stay as directories know them, refusals too: TestUsers, TestGroups, TestDescribed, TestRefusals. Pages
//     are bounded: TestFindUsers. How much a directory may have is said: TestLimitsAreDocumented.
//  6. Every change is in the log, names and addresses only in private, with the key as actor: TestUsers.
//
// A user has one address: userName, which emails repeats. What is not kept (departments, managers, passwords) is taken and
// forgotten. Filters are comparisons by eq joined by and. There is no bulk, no sorting, no search by POST, and no /Me.
package scim
