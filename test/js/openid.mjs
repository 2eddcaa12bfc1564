// Signs in by an OpenID Connect provider with openid-client, a certified client, as a careful service would. Standard input is
// {issuer, client_id, client_secret, redirect_uri}; prints who signed in, or the error.
import { text } from 'node:stream/consumers'
import * as client from 'openid-client'

const { issuer, client_id, client_secret, redirect_uri } = JSON.parse(await text(process.stdin))
const result = {}
try {
  const config = await client.discovery(new URL(issuer), client_id, client_secret, undefined, { execute: [client.allowInsecureRequests] })
  const pkceCodeVerifier = client.randomPKCECodeVerifier()
  const expectedState = client.randomState()
  const expectedNonce = client.randomNonce()
  const address = client.buildAuthorizationUrl(config, {
    redirect_uri, scope: 'openid email', state: expectedState, nonce: expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256', max_age: '0',
  })
  const answer = await fetch(address, { redirect: 'manual' })
  const back = new URL(answer.headers.get('location'))
  const tokens = await client.authorizationCodeGrant(config, back, { pkceCodeVerifier, expectedState, expectedNonce, maxAge: 0, idTokenExpected: true })
  // Tokens that come straight from the provider need no signature, says the standard; this judges it all the same.
  client.enableNonRepudiationChecks(config)
  const second = await fetch(address, { redirect: 'manual' })
  await client.authorizationCodeGrant(config, new URL(second.headers.get('location')), { pkceCodeVerifier, expectedState, expectedNonce, maxAge: 0, idTokenExpected: true })
  const claims = tokens.claims()
  const info = await client.fetchUserInfo(config, tokens.access_token, claims.sub)
  result.Subject = claims.sub
  result.Email = info.email
} catch (err) {
  result.Error = `${err.code ?? err.name}: ${err.message}`
}
console.log(JSON.stringify(result))
