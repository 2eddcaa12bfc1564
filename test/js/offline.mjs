// Verifies an agent's token offline, as seed 001 says: jose.jwtVerify with the published keys. Standard input is
// {"jwks", "tries": {name: {"token", "options"}}}; prints for each the claims, or the code of jose's error.
import { text } from 'node:stream/consumers'
import * as jose from 'jose'

const { jwks, tries } = JSON.parse(await text(process.stdin))
const JWKS = jose.createRemoteJWKSet(new URL(jwks))
const results = {}
for (const [name, { token, options }] of Object.entries(tries)) {
  try {
    const { payload, protectedHeader } = await jose.jwtVerify(token, JWKS, options)
    results[name] = { payload, header: protectedHeader }
  } catch (err) {
    results[name] = { code: err.code ?? String(err) }
  }
}
console.log(JSON.stringify(results))
