// Runs a TF.js graph model on raw RGB pixels: node run_tfjs.js FOLDER PIXELS SIZE OUTPUT...; writes output0, output1 ...
const fs = require("fs"), path = require("path");
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const { loadGraphModel } = require("@tensorflow/tfjs-converter");

async function main([folder, pixels, size, ...outputs]) {
  const json = JSON.parse(fs.readFileSync(path.join(folder, "model.json")));
  const weightSpecs = json.weightsManifest.flatMap((group) => group.weights);
  const shards = json.weightsManifest.flatMap((group) => group.paths).map((name) => fs.readFileSync(path.join(folder, name)));
  const bytes = Buffer.concat(shards);
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const model = await loadGraphModel({ load: async () => ({ modelTopology: json.modelTopology, weightSpecs, weightData }) });
  const image = tf.tensor(new Int32Array(fs.readFileSync(pixels)), [1, +size, +size, 3], "int32");
  const made = [].concat(await model.executeAsync(image, outputs));
  made.forEach((tensor, number) => fs.writeFileSync(`output${number}`, Buffer.from(tensor.dataSync().buffer)));
  console.log(JSON.stringify(made.map((tensor) => tensor.shape)));
}
main(process.argv.slice(2));
