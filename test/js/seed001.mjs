// Runs the code of seed 001 as the handler of a service, and calls that service as an agent does. Standard input holds the
// code; the agent has its token in AGENT_TOKEN, as the seed says. Prints what the agent got and what the service printed.
import http from 'node:http'
import { text } from 'node:stream/consumers'

const AsyncFunction = (async () => {}).constructor
const service = new AsyncFunction('req', 'res', 'console', await text(process.stdin))
const printed = []

const server = http.createServer(async (req, raw) => {
  // The two methods of Express that the seed's code calls.
  const res = { status(code) { raw.statusCode = code; return this }, json(body) { raw.end(JSON.stringify(body)) } }
  try {
    await service(req, res, { log: (line) => printed.push(line) })
    if (!raw.writableEnded) res.json({ served: true })
  } catch (err) {
    res.status(500).json({ error: String(err) })
  }
})
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const answer = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { 'X-Agent-Token': process.env.AGENT_TOKEN } })
console.log(JSON.stringify({ status: answer.status, body: await answer.json(), printed }))
server.close()
