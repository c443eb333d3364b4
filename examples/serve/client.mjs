// The same with the official Node client: npm install openai, then node client.mjs MODEL
// It reads OPENAI_BASE_URL and OPENAI_API_KEY from the environment.
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI();
const rows = createReadStream(new URL("tickets.jsonl", import.meta.url));
const file = await client.files.create({ file: rows, purpose: "fine-tune" });
let job = await client.fineTuning.jobs.create({
  model: process.argv[2] ?? "smollm2-135m",
  training_file: file.id,
  suffix: "tickets",
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2 } } },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await new Promise((done) => setTimeout(done, 2000));
  job = await client.fineTuning.jobs.retrieve(job.id);
}
const messages = []; // the newest comes first
for await (const event of client.fineTuning.jobs.listEvents(job.id)) messages.unshift(event.message);
console.log(messages.join("\n"));
const answer = await client.chat.completions.create({
  model: job.fine_tuned_model,
  messages: [
    { role: "system", content: "Sort the ticket." },
    { role: "user", content: "My parcel should have been here on Monday." },
  ],
  stream: true,
});
for await (const piece of answer) process.stdout.write(piece.choices[0]?.delta?.content ?? "");
console.log();
