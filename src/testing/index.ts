// The door "stablelog/testing": what helps others to test a log, or code that stands on one.

export { type StorageFactory, type SuiteApi, testStorage } from "./storage-suite.js";
