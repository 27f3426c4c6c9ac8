// Loaded by the frontend: /extensions lists it.
console.log("the example pack is here");
